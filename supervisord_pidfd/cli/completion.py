"""Completion scripts of bash, zsh and fish: words from the table of verbs, names from the daemon."""

from supervisord_pidfd.cli.session import DONE, Session
from supervisord_pidfd.cli.verbs import GLOBAL, VERBS, Option, Verb
from supervisord_pidfd.errors import UsageError


def completion(session: Session) -> int:
    """Print the script of a shell."""
    shell = session.words.operands[0]
    if shell not in SCRIPTS:
        raise UsageError(f"no completion for '{shell}' (there is one for {', '.join(SCRIPTS)})")
    session.screen.write(SCRIPTS[shell]())
    return DONE


def _flags(options: tuple[Option, ...]) -> str:
    return " ".join(flag for option in options for flag in option.flags)


def _words(verb: Verb) -> str:
    return "|".join((verb.name, *verb.aliases))


def _valued() -> list[Option]:
    """Return options that take a value of no closed list, each flag once."""
    found: dict[str, Option] = {}
    for option in (*GLOBAL, *(option for verb in VERBS for option in verb.options)):
        if option.metavar and not option.choices:
            found.setdefault(option.flags[-1], option)
    return list(found.values())


def _choices() -> list[Option]:
    return [option for verb in VERBS for option in verb.options if option.choices]


def _all_verbs() -> str:
    return " ".join(word for verb in VERBS for word in (verb.name, *verb.aliases))


# -- bash -----------------------------------------------------------------------------------------

_BASH = """\
# bash completion of pidfdctl: source <(pidfdctl completion bash)
_pidfdctl_names() {{
    local names
    names=$(pidfdctl "${{socket[@]}}" status --columns SERVICE,GROUP --no-header 2>/dev/null) || return
    awk '{{ n = split($1, part, "@"); print $1; if (n > 1) print part[1]; print "@" $2 }}' <<<"$names" | sort -u
}}
_pidfdctl() {{
    # Read from the line itself: bash takes words apart at '@'.
    local cur prev words=() cword verb= options= kind=none index socket=()
    read -ra words <<<"${{COMP_LINE:0:COMP_POINT}}"
    [[ ${{COMP_LINE:0:COMP_POINT}} == *[[:space:]] ]] && words+=("")
    cword=$((${{#words[@]}} - 1)) cur=${{words[-1]}} prev=${{words[-2]}}
    for ((index = 1; index < cword; index++)); do
        case ${{words[index]}} in
        -s | --socket) socket=(-s "${{words[index + 1]}}"); ((index++)) ;;
        -*) ;;
        *) [[ -n $verb ]] || verb=${{words[index]}} ;;
        esac
    done
    case $prev in
    -s | --socket) COMPREPLY=($(compgen -f -- "$cur")); return ;;
{choices}    {valued}) return ;;
    esac
    if [[ -z $verb ]]; then
        COMPREPLY=($(compgen -W "{verbs} {shared}" -- "$cur"))
        return
    fi
    case $verb in
{cases}    esac
    if [[ $cur == -* ]]; then
        COMPREPLY=($(compgen -W "$options {shared}" -- "$cur"))
        return
    fi
    case $kind in
    names) COMPREPLY=($(compgen -W "$(_pidfdctl_names)" -- "$cur")) ;;
    files) COMPREPLY=($(compgen -f -- "$cur")) ;;
    shells) COMPREPLY=($(compgen -W "bash zsh fish" -- "$cur")) ;;
    esac
    if [[ $cur == *@* && $COMP_WORDBREAKS == *@* ]]; then
        COMPREPLY=("${{COMPREPLY[@]#"${{cur%@*}}"}}") # for bash the word begins at the '@'
    fi
}}
complete -F _pidfdctl pidfdctl
"""


def _kind(verb: Verb) -> str:
    if verb.takes_names:
        return "names"
    return {"[FILE]": "files", "bash|zsh|fish": "shells"}.get(verb.operands, "none")


def bash() -> str:
    """Write the script of bash."""
    cases = "".join(
        f'    {_words(verb)}) options="{_flags(verb.options)}" kind={_kind(verb)} ;;\n'
        for verb in VERBS
    )
    choices = "".join(
        f'    {option.flags[-1]}) COMPREPLY=($(compgen -W "{" ".join(option.choices)}" -- "$cur"));'
        " return ;;\n"
        for option in _choices()
    )
    valued = " | ".join(option.flags[-1] for option in _valued() if option.flags[-1] != "--socket")
    return _BASH.format(
        cases=cases, choices=choices, valued=valued, verbs=_all_verbs(), shared=_flags(GLOBAL)
    )


# -- zsh ------------------------------------------------------------------------------------------

_ZSH = """\
#compdef pidfdctl
# zsh completion of pidfdctl: pidfdctl completion zsh >"${{fpath[1]}}/_pidfdctl"
_pidfdctl_names() {{
    local -a names
    names=(${{(f)"$(pidfdctl $socket status --columns SERVICE,GROUP --no-header 2>/dev/null |
        awk '{{ n = split($1, part, "@"); print $1; if (n > 1) print part[1]; print "@" $2 }}' | sort -u)"}})
    compadd -a names
}}
_pidfdctl() {{
    local curcontext=$curcontext state line verb word
    local -a socket verbs shared
    local -A opt_args
    shared=(
{shared}    )
    _arguments -C $shared '1:verb:->verb' '*::arg:->arg' && return
    (( ${{+opt_args[-s]}} )) && socket=(-s $opt_args[-s])
    (( ${{+opt_args[--socket]}} )) && socket=(-s $opt_args[--socket])
    case $state in
    verb)
        verbs=(
{verbs}        )
        _describe verb verbs ;;
    arg)
        case $line[1] in
{cases}        esac ;;
    esac
}}
if [[ $funcstack[1] = _pidfdctl ]]; then _pidfdctl "$@"; else compdef _pidfdctl pidfdctl; fi
"""


def _zsh_text(text: str) -> str:
    for char in "[]:":
        text = text.replace(char, f"\\{char}")
    return text.replace("'", "'\\''")


def _zsh_option(option: Option, indent: str) -> str:
    value = ""
    if option.metavar:
        value = f":{option.metavar}:" + (f"({' '.join(option.choices)})" if option.choices else "")
    if option.flags[-1] == "--socket":
        value = ":socket:_files"
    return "".join(f"{indent}'{flag}[{_zsh_text(option.help)}]{value}'\n" for flag in option.flags)


_ZSH_OPERANDS = {
    "names": "'*:name:_pidfdctl_names'", "files": "'1:file:_files'",
    "shells": "'1:shell:(bash zsh fish)'", "none": "",
}  # fmt: skip


def zsh() -> str:
    """Write the script of zsh."""
    verbs = "".join(f"            '{verb.name}:{_zsh_text(verb.help)}'\n" for verb in VERBS)
    cases = ""
    for verb in VERBS:
        options = "".join(_zsh_option(option, "                ") for option in verb.options)
        operands = _ZSH_OPERANDS[_kind(verb)]
        own = f"                {operands}\n" if operands else ""
        words = [line.rstrip("\n") for line in (options + own).splitlines()]
        tail = " \\\n".join(["            _arguments $shared", *words])
        cases += f"        {_words(verb)})\n{tail} ;;\n"
    shared = "".join(_zsh_option(option, "        ") for option in GLOBAL)
    return _ZSH.format(shared=shared, verbs=verbs, cases=cases)


# -- fish -----------------------------------------------------------------------------------------

_FISH = """\
# fish completion of pidfdctl: pidfdctl completion fish | source
function __pidfdctl_names
    set -l words (commandline -opc)
    set -l socket
    for index in (seq (count $words))
        if contains -- $words[$index] -s --socket
            set socket -s $words[(math $index + 1)]
        end
    end
    pidfdctl $socket status --columns SERVICE,GROUP --no-header 2>/dev/null |
        awk '{ n = split($1, part, "@"); print $1; if (n > 1) print part[1]; print "@" $2 }' | sort -u
end
complete -c pidfdctl -f
"""


def _fish_option(option: Option, condition: str) -> str:
    flags = "".join(
        f" -l {flag[2:]}" if flag.startswith("--") else f" -s {flag[1:]}" for flag in option.flags
    )
    value = " -x" if option.metavar else ""
    if option.choices:
        value += f" -a '{' '.join(option.choices)}'"
    if option.flags[-1] == "--socket":
        value = " -r -F"
    text = option.help.replace("'", "\\'")
    return f"complete -c pidfdctl{condition}{flags}{value} -d '{text}'\n"


def fish() -> str:
    """Write the script of fish."""
    every = _all_verbs()
    lines = [_FISH, *(_fish_option(option, "") for option in GLOBAL)]
    for verb in VERBS:
        text = verb.help.replace("'", "\\'")
        none_yet = f" -n 'not __fish_seen_subcommand_from {every}'"
        lines.append(f"complete -c pidfdctl{none_yet} -a {verb.name} -d '{text}'\n")
        seen = f" -n '__fish_seen_subcommand_from {' '.join((verb.name, *verb.aliases))}'"
        lines += [_fish_option(option, seen) for option in verb.options]
        operands = {
            "names": " -a '(__pidfdctl_names)'", "files": " -F", "shells": " -a 'bash zsh fish'",
        }.get(_kind(verb))  # fmt: skip
        if operands:
            lines.append(f"complete -c pidfdctl{seen}{operands}\n")
    return "".join(lines)


SCRIPTS = {"bash": bash, "zsh": zsh, "fish": fish}
