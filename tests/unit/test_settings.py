"""What a plan says of the daemon's own settings."""

import json

from supervisord_pidfd.core.reload import HIDDEN, KeyChange, digest_of
from supervisord_pidfd.core.settings import DAEMON, place_of_key, settings_item, waiting_keys
from supervisord_pidfd.core.spec import (
    GroupSpec,
    Identity,
    LogSpec,
    MetricsSpec,
    SupervisorSpec,
    Token,
    WebSpec,
)

PLAIN = SupervisorSpec()


def keys(old, new):
    item = settings_item(old, new)
    assert (item.action, item.service) == ("update", DAEMON)
    return {change.key: (change.old, change.new) for change in item.changes}


def test_the_same_settings_are_no_item():
    assert settings_item(PLAIN, SupervisorSpec()) is None


def test_each_changed_key_is_named_with_both_values():
    new = PLAIN._replace(start_concurrency=4, log_level="debug", read_uids=(7,), socket="/x")

    assert keys(PLAIN, new) == {
        "supervisor.start_concurrency": ("0", "4"),
        "supervisor.log.level": ('"info"', '"debug"'),
        "supervisor.read_users": ("[]", "[7]"),
        "supervisor.socket": (None, '"/x"'),
    }


def test_where_the_daemons_own_events_go_is_named_key_by_key():
    new = PLAIN._replace(own_log=LogSpec(("file",), path="/l/own", rotate_at="daily"))

    assert keys(PLAIN, new) == {
        "supervisor.log.to": ('["stdout"]', '["file"]'),
        "supervisor.log.path": ('""', '"/l/own"'),
        "supervisor.log.rotate_every": ('""', '"daily"'),
    }


def test_what_follows_from_the_host_is_no_key():
    new = PLAIN._replace(web=WebSpec(identity=Identity(7, 7)))

    assert settings_item(PLAIN, new) is None


def test_metrics_and_the_gateways_user_are_named_as_in_the_file():
    new = PLAIN._replace(
        metrics=MetricsSpec(listen=("127.0.0.1:9877",)), web=WebSpec(control=True, user="web")
    )

    assert keys(PLAIN, new) == {
        "metrics.listen": ("[]", '["127.0.0.1:9877"]'),
        "web.control": ("false", "true"),
        "web.user": (None, '"web"'),
    }


def test_other_tokens_behind_the_same_file_are_told_without_a_word_of_them():
    old, new = (
        PLAIN._replace(
            web=WebSpec(token_file="/t", tokens=(Token("read", digest * 64),)),
            written=written(("web.token_file", '"/t"', "a", 4)),
        )
        for digest in "ab"
    )

    assert settings_item(old, new).changes == (
        KeyChange("web.token_file", HIDDEN, HIDDEN, "a", 4),
    )
    moved = new._replace(web=new.web._replace(token_file="/u"))
    assert keys(old, moved) == {"web.token_file": ('"/t"', '"/t"')}


def test_groups_come_change_and_go():
    old = PLAIN._replace(groups=(GroupSpec("a", ("x",)), GroupSpec("b"), GroupSpec("same")))
    new = PLAIN._replace(groups=(GroupSpec("same"), GroupSpec("a", ("x", "y")), GroupSpec("c")))

    assert keys(old, new) == {
        "group.a": ('["x"]', '["x", "y"]'),
        "group.b": ("[]", None),
        "group.c": (None, "[]"),
    }


def test_what_the_daemon_reads_once_waits_until_it_is_started_again():
    new = PLAIN._replace(socket="/x", reaper="sigchld", log_format="json", history_size=3)

    assert waiting_keys(PLAIN, new) == (
        "supervisor.socket",
        "supervisor.reaper",
        "supervisor.log.format",
    )
    assert waiting_keys(new, new) == ()


def test_settings_are_part_of_what_a_digest_names():
    def digest(**changes):
        return digest_of([settings_item(PLAIN, PLAIN._replace(**changes))], {})

    assert digest(history_size=3) == digest(history_size=3)
    assert digest(history_size=3) != digest(history_size=4)


def test_a_change_of_settings_has_no_line():
    (change,) = settings_item(PLAIN, PLAIN._replace(history_size=3)).changes

    assert change == KeyChange("supervisor.history_size", "100", "3", None, None)


def written(*lines):
    return json.dumps([list(line) for line in lines])


def test_a_change_is_written_as_the_file_has_it_and_says_where():
    old = SupervisorSpec(
        shutdown_timeout=10.0, written=written(("supervisor.shutdown_timeout", '"10s"', "a", 2))
    )
    new = SupervisorSpec(
        shutdown_timeout=20.0, written=written(("supervisor.shutdown_timeout", '"20s"', "a", 3))
    )

    assert settings_item(old, new).changes == (
        KeyChange("supervisor.shutdown_timeout", '"10s"', '"20s"', "a", 3),
    )
    gone = settings_item(old, SupervisorSpec()).changes
    assert gone == (KeyChange("supervisor.shutdown_timeout", '"10s"', None, "a", 2),)


def test_a_group_stands_where_its_first_key_does():
    new = SupervisorSpec(
        groups=(GroupSpec("a", ("x",)),), written=written(("group.a.services", '["x"]', "a", 9))
    )

    assert settings_item(PLAIN, new).changes == (KeyChange("group.a", None, '["x"]', "a", 9),)
    assert place_of_key(new, "group.a") == ("a", 9)
    assert place_of_key(new, "group") == ("a", 9)
    assert place_of_key(new, "supervisor.socket") == (None, None)


def test_a_line_of_the_settings_that_moved_is_no_change():
    new = SupervisorSpec(written=written(("supervisor.history_size", "100", "a", 9)))

    assert settings_item(PLAIN, new) is None
