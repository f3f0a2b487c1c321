"""What a shell completes behind ``diffad``: options, their values, and the fields of a config."""

from collections.abc import Iterable, Mapping

_BASH = """# source <(diffad --completion=bash)
_diffad() {{
  local word="${{COMP_LINE:0:COMP_POINT}}" values
  word="${{word##* }}"
  case "$word" in
{cases}
    --*=*) return ;;  # a path
    *) COMPREPLY=($(compgen -W "{options}" -- "$word"))
       [[ "${{COMPREPLY[0]}}" == *= ]] && compopt -o nospace
       return ;;
  esac
  COMPREPLY=($(compgen -W "$values" -- "${{word#*=}}"))
}}
complete -o default -F _diffad diffad"""


def bash(options: Iterable[str], values: Mapping[str, Iterable[str]]) -> str:
    """A script for bash, where a = ends a word.

    Args:
      options: such as ``--workdir=``; with a = where a value follows.
      values: what can stand behind the = of some of them.
    """
    cases = "\n".join(f'    {o}*) values="{" ".join(v)}" ;;' for o, v in values.items())
    return _BASH.format(cases=cases, options=" ".join(options))
