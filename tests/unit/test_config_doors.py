"""The [web] table: where the gateway may listen, and whose tokens open what."""

import hashlib

import pytest

from supervisord_pidfd.config.doors import MAX_TOKENS, is_local
from supervisord_pidfd.core.spec import Token, WebSpec
from tests.support.config import load_text

READ, CONTROL = (hashlib.sha256(text).hexdigest() for text in (b"one", b"two"))


@pytest.fixture
def tokens(tmp_path):
    """Give the path of a token file, and write it anew when called."""
    file = tmp_path / "tokens"

    def write(text, mode=0o600):
        file.write_text(text)
        file.chmod(mode)
        return file

    write(f"read:{READ}\n")
    return write


def told(folder, text, **members):
    """Load a file; give file, line, code and message of each problem."""
    reply = load_text(folder, text, **members)
    return [(p.file, p.line, p.code, p.message) for p in reply.problems]


def test_every_key_of_the_table_reaches_the_spec(tmp_path, tokens):
    file = tokens(f"# mine\nread:{READ}\n\n  control: {CONTROL.upper()} \nread:{READ}\n")
    reply = load_text(
        tmp_path,
        'web.listen = ["127.0.0.1:8080", "unix:web.sock"]\nweb.control = true\n'
        'web.token_file = "tokens"\nweb.allowed_hosts = ["Box.Example.org"]\n'
        'web.rpc = "read"\nweb.rpc_listen = "127.0.0.1:9001"\nweb.user = 7',
        uid=4200000001,
    )

    assert reply.ok, reply.problems
    assert reply.supervisor.web == WebSpec(
        listen=("127.0.0.1:8080", f"unix:{tmp_path}/web.sock"),
        control=True,
        token_file=str(file),
        tokens=(Token("read", READ), Token("control", CONTROL)),
        allowed_hosts=("box.example.org",),
        rpc="read",
        rpc_listen=("127.0.0.1:9001",),
        user="7",
    )


def test_without_the_table_nothing_is_served():
    assert WebSpec() == WebSpec(listen=(), control=False, rpc="off", rpc_listen=(), tokens=())


def test_xml_rpc_has_a_socket_in_the_runtime_directory_by_default(tmp_path):
    reply = load_text(tmp_path, 'web.rpc = "control"', runtime_dir="/run/it")

    assert reply.supervisor.web.rpc_listen == ("unix:/run/it/rpc.sock",)
    off = load_text(tmp_path, 'web.rpc_listen = "127.0.0.1:1"', runtime_dir="/run/it")
    assert off.supervisor.web.rpc_listen == ()


def test_xml_rpc_without_any_place_for_its_socket_is_an_error(tmp_path, monkeypatch):
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)

    found = told(tmp_path, 'web.rpc = "read"', uid=4200000001)

    assert [(line, code) for _, line, code, _ in found] == [(1, "missing-key")]


@pytest.mark.parametrize(
    ("text", "local"),
    [
        ("127.0.0.1:1", True), ("127.8.8.8:1", True), ("[::1]:1", True), ("unix:/x", True),
        ("[0:0:0:0:0:0:0:1]:1", True), ("0.0.0.0:1", False), ("[::]:1", False),
        ("10.0.0.1:1", False), ("[::ffff:127.0.0.1]:1", False), ("[fe80::1]:1", False),
    ],
)  # fmt: skip
def test_which_addresses_this_host_alone_reaches(text, local):
    assert is_local(text) is local


@pytest.mark.parametrize("key", ["listen", "rpc = 'read'\nweb.rpc_listen"])
def test_other_hosts_need_a_token(tmp_path, tokens, key):
    text = f'web.{key} = ["127.0.0.1:1", "0.0.0.0:2", "[::]:2"]'
    name = key.rpartition(".")[2] or key

    found = told(tmp_path, text)

    assert {(code, message) for _, _, code, message in found} == {
        ("missing-key", f"web.{name}: other hosts reach {address}: needs web.token_file")
        for address in ("0.0.0.0:2", "[::]:2")
    }
    assert told(tmp_path, f"web.token_file = 'tokens'\n{text}") == []


def test_control_needs_a_token(tmp_path, tokens):
    text = "web.listen = '127.0.0.1:1'\nweb.control = true\n"

    assert [(line, code) for _, line, code, _ in told(tmp_path, text)] == [(2, "conflict")]
    assert told(tmp_path, text + "web.token_file = 'tokens'") == []


def test_control_by_xml_rpc_needs_a_token_but_on_a_socket_of_our_own(tmp_path, tokens):
    text = "web.rpc = 'control'\nweb.rpc_listen = '127.0.0.1:1'\n"

    assert [(line, code) for _, line, code, _ in told(tmp_path, text)] == [(1, "conflict")]
    assert told(tmp_path, text + "web.token_file = 'tokens'") == []
    assert told(tmp_path, text.replace("127.0.0.1:1", "unix:/x")) == []


def test_one_address_serves_one_thing(tmp_path):
    text = "metrics.listen = '127.0.0.1:1'\nweb.listen = ['127.0.0.1:0', '127.0.0.1:1']"

    assert told(tmp_path, text) == [
        (f"{tmp_path}/main.toml", 2, "conflict",
         "web.listen: 127.0.0.1:1 is in metrics.listen too"),
    ]  # fmt: skip
    assert told(tmp_path, text.replace("9.1:1", "9.1:0").replace("1:1", "1:0")) == []


@pytest.mark.parametrize(
    ("line", "ends"),
    [
        (f"root:{READ}", "before the colon must stand one of metrics, read, control"),
        (READ, "before the colon must stand one of metrics, read, control"),
        ("read:hunter2", "behind the colon must stand a SHA-256 in hexadecimal"),
        (f"read:{READ}0", "behind the colon must stand a SHA-256 in hexadecimal"),
        (f"read:{READ} # who", "behind the colon must stand a SHA-256 in hexadecimal"),
        (f"Read:{READ}", "before the colon must stand one of metrics, read, control"),
    ],
)
def test_a_line_that_is_no_token_is_an_error_with_its_place(tmp_path, tokens, line, ends):
    file = tokens(f"read:{READ}\n{line}\n")
    ((where, number, code, message),) = told(tmp_path, "web.token_file = 'tokens'")

    assert (where, number, code) == (str(file), 2, "bad-value")
    assert message.endswith(ends)


def test_what_stands_in_the_file_is_never_shown(tmp_path, tokens):
    tokens("hunter2\nread:hunter2\n")
    reply = load_text(tmp_path, "web.token_file = 'tokens'")

    assert len(reply.problems) == 2
    assert "hunter2" not in str(reply)


def test_a_file_without_a_token_lets_nobody_in_so_it_is_an_error(tmp_path, tokens):
    tokens("# none yet\n")

    ((_, line, code, message),) = told(tmp_path, "web.token_file = 'tokens'")

    assert (line, code) == (1, "bad-value")
    assert message.startswith("web.token_file: there is no token in")


def test_too_many_tokens_are_an_error(tmp_path, tokens):
    tokens("".join(f"read:{number:064x}\n" for number in range(MAX_TOKENS + 1)))

    assert [code for *_, code, _ in told(tmp_path, "web.token_file = 'tokens'")] == ["too-large"]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda file: file.unlink(), "unreadable"),
        pytest.param(lambda file: file.chmod(0o620), "unsafe-file", marks=pytest.mark.root),
        (lambda file: (file.unlink(), file.mkdir()), "unsafe-file"),
        (lambda file: file.write_text("x" * (1 << 20 | 1)), "too-large"),
    ],
)
def test_a_file_that_cannot_be_trusted_is_an_error(tmp_path, tokens, change, code):
    change(tokens(f"read:{READ}\n"))

    ((_, line, found, message),) = told(tmp_path, "\nweb.token_file = 'tokens'")

    assert (line, found) == (2, code)
    assert message.startswith("web.token_file: cannot read")


def test_a_file_that_everybody_can_read_is_warned_of(tmp_path, tokens):
    tokens(f"read:{READ}\n", mode=0o644)
    reply = load_text(tmp_path, "web.token_file = 'tokens'")

    assert [(p.severity, p.code) for p in reply.problems] == [("warning", "world-readable-secret")]


@pytest.mark.parametrize("name", ["a b", "x:80", "*.org", "", "http://x", "-x"])
def test_a_host_name_has_no_port_and_no_pattern(tmp_path, name):
    ((_, line, code, _),) = told(tmp_path, f"web.allowed_hosts = ['good', '{name}']")

    assert (line, code) == (1, "bad-value")


def test_a_gateway_is_somebody_whatever_it_serves(tmp_path):
    for text in ("metrics.listen = '127.0.0.1:1'", "web.listen = 'unix:/x'", "web.rpc = 'read'"):
        reply = load_text(tmp_path, f"{text}\nweb.user = 12", uid=0)
        assert reply.supervisor.web.identity.uid == 12
    assert load_text(tmp_path, "web.user = 12", uid=0).supervisor.web.identity is None
