"""What every verb of the command shares: the project it is about, how it answers, how it ends."""

import contextlib
import inspect
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Concatenate, ParamSpec, TypeVar

import typer
from typer.core import TyperGroup

import headwater.project
from feature_definitions import settings
from feature_definitions.errors import Unknown, UserError
from headwater import documents, output
from headwater.open_project import Say
from lake import s3

DONE, FAILED, MISTAKE, REJECTED = 0, 1, 2, 3
EXIT_CODES = """exit codes:
  0  done, also when nothing was due
  1  something failed
  2  your mistake: the command, a definition, an input
  3  done, but the gate rejected something"""

_BARE = (AttributeError, IndexError, KeyError, NotImplementedError, TypeError)
"""Errors whose text says nothing without their names."""

AS_JSON = "headwater.as_json"
"""Where a group of verbs notes that `--json` stood before the verb."""

ON_MISTAKES = "headwater.mistakes"
"""Where it is noted what is done about mistakes in the catalog."""

Folder = Annotated[str | None, typer.Option("--project", metavar="DIR", help="the project's folder (default: the current one)")]
AsJson = Annotated[bool, typer.Option("--json", help="print one JSON document and nothing else")]
Group = Annotated[str, typer.Argument(metavar="GROUP", help="a feature group")]
Groups = Annotated[list[str], typer.Argument(metavar="GROUP", default_factory=list, show_default=False, help="feature groups (none: all)")]
Keys = Annotated[list[str], typer.Argument(metavar="key=value", default_factory=list, show_default=False, help="the entity's keys")]

Parameters = ParamSpec("Parameters")
Verb = TypeVar("Verb", bound=Callable[Concatenate["Call", ...], int])


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the command: the folder it names, and whether it is answered by a JSON document or by tables."""

    folder: str | None
    as_json: bool
    mistakes: headwater.project.OnMistakes = "refuse"

    def project(self, say: Say = lambda _: None) -> "headwater.project.Project":
        """The project that it is about."""
        return headwater.project.open(settings.project_folder(self.folder), say=say, mistakes=self.mistakes)

    def answer(self, document: documents.Document, *shown: Any) -> int:
        """Print the document, or what a person is shown instead."""
        if self.as_json:
            output.print_json(document)
        else:
            output.out.print(*shown, sep="\n")
        return DONE


def verb(app: typer.Typer, *, example: str, panel: str | None = None) -> Callable[[Verb], Verb]:
    """Make a function a verb of `app`: its first sentence is its help; it gets `--project` and `--json`, and returns an exit code."""

    def register(function: Verb) -> Verb:
        def run(*, context: typer.Context, project: str | None, as_json: bool, **words: Any) -> int:
            asked_for = (as_json or context.meta.get(AS_JSON, False), context.meta.get(ON_MISTAKES, "refuse"))
            call = Call(project or context.obj, *asked_for)
            return _ended(lambda: function(call, **words), call)

        own = list(inspect.signature(function).parameters.values())[1:]
        shared = {"context": typer.Context, "project": Folder, "as_json": AsJson}
        added = {name: inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=kind) for name, kind in shared.items()}
        more = [added["context"], *own, added["project"].replace(default=None), added["as_json"].replace(default=False)]
        run.__signature__ = inspect.Signature(more)  # type: ignore[attr-defined]  # typer reads it
        run.__annotations__ = {each.name: each.annotation for each in more}
        app.command(function.__name__.strip("_").replace("_", "-"), help=function.__doc__, epilog=epilog(example), rich_help_panel=panel)(
            run
        )
        return function

    return register


class Words(TyperGroup):
    """A group of verbs one of which is meant where none is named: `training-set churn` is `training-set build churn`."""

    default: ClassVar[str]

    @classmethod
    def with_default(cls, default: str) -> type["Words"]:
        """Such a group with its verb."""
        return type(cls.__name__, (cls,), {"default": default})

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse what is said, with the verb that is meant."""
        return super().parse_args(ctx, self.with_verb(args))

    def with_verb(self, words: list[str]) -> list[str]:
        """What is said, with a verb behind what is said of the whole group."""
        place = 0
        while place < len(words) and words[place].partition("=")[0] in ("--project", "--json"):
            place += 2 if words[place] == "--project" else 1
        if words[place : place + 1] in [[word] for word in (*self.commands, "--help", "-h")]:
            return words
        return [*words[:place], self.default, *words[place:]]


def epilog(example: str) -> str:
    """What stands below the help of a verb."""
    return f"example:\n  {example}\n\n{EXIT_CODES}"


def pairs(texts: Sequence[str], *, what: str = "key=value", example: str = "customer_id=42") -> dict[str, str]:
    """What is written as `key=value` each, like an entity's keys."""
    found: dict[str, str] = {}
    for text in texts:
        key, sign, value = text.partition("=")
        if not sign or not key:
            raise Unknown(f"{text!r} is not {what}; write for example {example}")
        if key in found:
            raise Unknown(f"{key} is said twice, {found[key]!r} and {value!r}; say it once")
        found[key] = value
    return found


def _ended(carry_out: Callable[[], int], call: Call) -> int:
    """The exit code of what is carried out; what goes wrong becomes a sentence."""
    try:
        with output.stdout_is_ours():
            return carry_out()
    except KeyboardInterrupt:
        output.err.print("[red]interrupted[/]; what was published stays, the same command goes on from there")
        return FAILED
    except Exception as error:  # noqa: BLE001  # the one place where everything that went wrong becomes a sentence
        return _failed(error, call)


def _failed(error: Exception, call: Call) -> int:
    """One sentence for what went wrong, and its exit code; the traceback of what nobody foresaw, or came of something else, is kept."""
    mistake = error if isinstance(error, UserError) else s3.explained(error)
    if mistake is not None:
        output.mistake(str(mistake))
        if error is not mistake or error.__cause__ is not None:
            _keep(error, call)
        return MISTAKE
    output.err.print(f"[red]failed:[/] {output.plain(_sentence(error))}")
    _keep(error, call)
    return FAILED


def _keep(error: Exception, call: Call) -> None:
    """Keep the traceback in the project, if there is one, and say where."""
    with contextlib.suppress(OSError):
        state = settings.project_folder(call.folder) / ".headwater"
        if state.is_dir():
            (state / "last-error.log").write_text("".join(traceback.format_exception(error)), encoding="utf-8")
            output.err.print(f"[dim]details: {output.plain(str(state / 'last-error.log'))}[/]")


def _sentence(error: Exception) -> str:
    name, first = type(error).__name__, (str(error).strip().splitlines() or [""])[0][:500]
    return (first and (f"{name}: {first}" if type(error) in _BARE else first)) or name
