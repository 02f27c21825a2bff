"""Completion for bash, zsh and fish, as click writes it; for bash with whole words. Pure.

bash splits words at colons, so click's own script takes an IPv6 address or `account:NAME` for
several words. Here words are those between blanks, and bash is given what follows the last colon.
"""

from click.shell_completion import get_completion_class

from throttled.cli.main import throttled

#: Where a distribution's shells look, below /usr/share.
SHELLS = {
    "bash": "bash-completion/completions/throttled",
    "zsh": "zsh/vendor-completions/_throttled",
    "fish": "fish/vendor_completions.d/throttled.fish",
}
_VARIABLE = "_THROTTLED_COMPLETE"
_BASH = f"""\
_throttled_completion() {{
    local line=${{COMP_LINE:0:COMP_POINT}} words=() before= type value
    read -ra words <<< "$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    [[ $COMP_WORDBREAKS == *:* ]] && before=${{words[-1]%"${{words[-1]##*:}}"}}
    COMPREPLY=()
    while IFS=, read -r type value; do
        case $type in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain) COMPREPLY+=("${{value#"$before"}}") ;;
        esac
    done < <(
        COMP_WORDS=$line COMP_CWORD=$((${{#words[@]}} - 1)) \\
            {_VARIABLE}=bash_complete "$1" 2>/dev/null
    )
}}
complete -o nosort -F _throttled_completion throttled
"""


def scripts() -> dict[str, str]:
    """Return the scripts by their paths below /usr/share."""
    texts = {SHELLS["bash"]: _BASH}
    for shell in ("zsh", "fish"):
        kind = get_completion_class(shell)
        assert kind is not None
        texts[SHELLS[shell]] = kind(throttled, {}, "throttled", _VARIABLE).source()
    return texts
