"""Completion for bash, zsh and fish; for fish as click writes it. Pure.

bash splits words at colons, so click's own script takes an IPv6 address or `account:NAME` for
several words. Here words are those between blanks, and bash is given what follows the last colon.

click's script for zsh, autoloaded from a directory as that of a package, completes nothing at the
second time in each shell: it then only registers itself (click 8.5). Here the file is the function.
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
_ZSH = f"""\
#compdef throttled

local type key about
local -a plain described
while IFS= read -r type && IFS= read -r key && IFS= read -r about; do
    case $type in
        dir) _path_files -/ ;;
        file) _path_files -f ;;
        plain)
            if [[ $about == _ ]]; then
                plain+=("$key")
            else
                described+=("${{key//:/\\\\:}}:$about")
            fi ;;
    esac
done < <(
    COMP_WORDS="${{words[*]}}" COMP_CWORD=$((CURRENT - 1)) \\
        {_VARIABLE}=zsh_complete throttled 2>/dev/null
)
(( $#described )) && _describe -V unsorted described -U
(( $#plain )) && compadd -U -V unsorted -a plain
"""


def scripts() -> dict[str, str]:
    """Return the scripts by their paths below /usr/share."""
    fish = get_completion_class("fish")
    assert fish is not None
    source = fish(throttled, {}, "throttled", _VARIABLE).source()
    return {SHELLS["bash"]: _BASH, SHELLS["zsh"]: _ZSH, SHELLS["fish"]: source}
