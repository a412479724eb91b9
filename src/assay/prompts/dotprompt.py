"""A `.prompt` file (YAML front matter and a body) as a frozen PromptTemplate. Versions and labels: store."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Final, Literal

from assay.errors import PromptError
from assay.prompts import frontmatter, rendering, template
from assay.prompts.frontmatter import FrontMatter
from assay.prompts.inputs import Inputs, Schema, compile_schema
from assay.prompts.picoschema import SchemaProblem, to_json_schema
from assay.prompts.source import Location, Source, did_you_mean, listed
from assay.types import (
    JSON,
    Context,
    JsonOutput,
    Message,
    Output,
    Request,
    Sampling,
    SchemaOutput,
    TextOutput,
)

SUFFIX: Final = ".prompt"
VERSION_DIGITS: Final = 12
KEYS: Final = ("name", "variant", "description", "model", "config", "input", "output", "metadata")

_SEGMENT: Final = r"[A-Za-z0-9][A-Za-z0-9_-]*"
_NAME: Final = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT})*")
_VARIANT: Final = re.compile(_SEGMENT)


@dataclass(frozen=True)
class PromptTemplate:
    """One prompt at one version. Two are equal when name, variant and canonical source are.

    `model`, `sampling` and `output` are what the file asks of a call; `config` holds the keys of its `config`
    that Sampling has no field for, as written. `digest` is the SHA-256 of the canonical source, in hex.
    """

    name: str
    variant: str | None
    source: str = field(repr=False)
    digest: str = field(compare=False)
    description: str | None = field(compare=False)
    model: str | None = field(compare=False)
    sampling: Sampling = field(compare=False)
    config: Mapping[str, JSON] = field(compare=False)
    output: Output = field(compare=False)
    metadata: Mapping[str, JSON] = field(compare=False)
    ext: Mapping[str, Mapping[str, JSON]] = field(compare=False)
    inputs: Inputs = field(compare=False, repr=False)
    body: template.Template = field(compare=False, repr=False)

    @property
    def version(self) -> str:
        """The first 12 hex digits of `digest`."""
        return self.digest[:VERSION_DIGITS]

    @property
    def ref(self) -> str:
        """`name@version`: how spans, experiments and commands refer to it."""
        return f"{self.name}@{self.version}"

    @property
    def variables(self) -> tuple[str, ...]:
        """The input variables that the body names, in order of first use."""
        return tuple(self.body.variables)

    @property
    def input_schema(self) -> Schema | None:
        """The JSON Schema of the variables, if the file declares one."""
        return self.inputs.schema

    @property
    def input_defaults(self) -> Mapping[str, JSON]:
        return self.inputs.defaults

    @property
    def output_schema(self) -> Schema | None:
        """The JSON Schema that the reply must keep to, if the file declares one."""
        return self.output.schema if isinstance(self.output, SchemaOutput) else None

    def render(
        self, variables: Mapping[str, JSON] | None = None, history: Sequence[Message] = ()
    ) -> tuple[Message, ...]:
        """The messages for these variables.

        Raises PromptError for a variable that is missing, unknown (with the nearest known name) or does not
        fit the schema, and for a value that cannot stand where the body uses it.

        >>> parse_prompt("Hello {{name}}!", name="greet").render({"name": "<b>{{Ada}}</b>"})[0].text
        'Hello <b>{{Ada}}</b>!'
        """
        return rendering.render(self.body, self.inputs, variables or {}, history)

    def request(
        self,
        variables: Mapping[str, JSON] | None = None,
        history: Sequence[Message] = (),
        *,
        model: str | None = None,
    ) -> Request:
        """The call that the prompt describes, ready for a gateway. `model` goes before the file's own.

        Raises PromptError as `render` does, when neither names a model, and when `config` has a key that no
        field of a Request can carry.
        """
        chosen = model or self.model
        if chosen is None:
            raise PromptError(f"{self.ref} names no model; add 'model:' to its front matter, or pass one")
        if self.config:
            raise PromptError(
                f"{self.ref}: config has {listed(self.config)}, which a call cannot carry; it carries"
                f" {listed(_SAMPLING)}"
            )
        return Request(
            model=chosen,
            messages=self.render(variables, history),
            sampling=self.sampling,
            output=self.output,
            context=Context(prompt=self.ref, variables=dict(variables or {})),
        )


def load_prompt(path: Path, folder: Path | None = None) -> PromptTemplate:
    """Read `name.prompt` or `name.variant.prompt`. Below `folder`, the way to the file is part of the name.

    Raises PromptError with file and line, also when the file cannot be read.
    """
    name, variant = name_and_variant(path, folder)
    try:
        raw = path.read_bytes()
    except OSError as exc:
        raise PromptError(f"{path}: cannot be read: {exc.strerror or exc}") from exc
    return _prompt(Source.decode(raw, str(path)), name, variant)


def parse_prompt(
    text: str, *, name: str | None = None, variant: str | None = None, file: str | None = None
) -> PromptTemplate:
    """Parse the text of a `.prompt` file; `file` is what errors call it.

    The name may stand in the front matter instead. Raises PromptError with file, line and column.

    >>> parse_prompt("---\\nmodel: local\\n---\\nHi {{who}}", name="greet").variables
    ('who',)
    """
    return _prompt(Source.of(text, file or name or "<prompt>"), name, variant)


def name_and_variant(path: Path, folder: Path | None = None) -> tuple[str, str | None]:
    """`support/answer.short.prompt` is the name `support/answer` and the variant `short`."""
    relative = path.relative_to(folder) if folder else Path(path.name)
    stem = relative.name.removesuffix(SUFFIX)
    if stem.startswith("_"):
        raise PromptError(f"{path}: a file that begins with '_' is a partial, and partials are not supported")
    base, dot, variant = stem.partition(".")
    name = "/".join((*relative.parts[:-1], base))
    if relative.suffix != SUFFIX or not _NAME.fullmatch(name) or (dot and not _VARIANT.fullmatch(variant)):
        raise PromptError(
            f"{path}: a prompt's file is called name.prompt or name.variant.prompt,"
            " of letters, digits, '-' and '_'"
        )
    return name, variant or None


# --- from front matter to fields -----------------------------------------------------------------

_SAMPLING: Final[dict[str, tuple[str, Literal["a number", "a whole number", "a list of texts"]]]] = {
    "temperature": ("temperature", "a number"),
    "maxOutputTokens": ("max_tokens", "a whole number"),
    "topP": ("top_p", "a number"),
    "topK": ("top_k", "a whole number"),
    "stopSequences": ("stop", "a list of texts"),
    "seed": ("seed", "a whole number"),
    "frequencyPenalty": ("frequency_penalty", "a number"),
    "presencePenalty": ("presence_penalty", "a number"),
}


def _prompt(source: Source, name: str | None, variant: str | None) -> PromptTemplate:
    front = frontmatter.read(source)
    ext = _extensions(front)
    name = _agreed(front, "name", name, _NAME)
    if name is None:
        raise source.error(0, "the prompt has no name; pass one, or add 'name:' to its front matter")
    body = template.parse(source, *front.body)
    sampling, config = _sampling(front)
    return PromptTemplate(
        name=name,
        variant=_agreed(front, "variant", variant, _VARIANT),
        source=source.text,
        digest=sha256(source.text.encode()).hexdigest(),
        description=_text(front, "description"),
        model=_text(front, "model"),
        sampling=sampling,
        config=config,
        output=_output(front),
        metadata=_mapping(front, ("metadata",)),
        ext=ext,
        inputs=_inputs(front, body, name),
        body=body,
    )


def _extensions(front: FrontMatter) -> dict[str, dict[str, JSON]]:
    """Keys with a dot belong to other tools: `acme.team: x` is kept as ext["acme"]["team"]."""
    ext: dict[str, dict[str, JSON]] = {}
    for key, value in front.values.items():
        namespace, dot, rest = key.rpartition(".")
        if dot:
            ext.setdefault(namespace, {})[rest] = value
        elif key not in KEYS:
            raise front.error(
                (key,),
                f"there is no key {key!r}{did_you_mean(key, KEYS)} Allowed: {listed(KEYS)},"
                " and keys of your own with a dot, as in 'acme.team'",
            )
    return ext


def _agreed(front: FrontMatter, key: str, given: str | None, pattern: re.Pattern[str]) -> str | None:
    """The name (or variant) by file name and front matter, which may not contradict each other."""
    written = _text(front, key)
    if written and given and written != given:
        raise front.error(
            (key,), f"{key} is {written!r}, but the file's name says {given!r}; remove this line"
        )
    chosen = written or given
    if chosen and not pattern.fullmatch(chosen):
        raise front.error((key,), f"the {key} {chosen!r} may have letters, digits, '-' and '_' only")
    return chosen


def _text(front: FrontMatter, key: str) -> str | None:
    value = front.values.get(key)
    if value is None or isinstance(value, str):
        return value or None
    raise front.error((key,), f"{key} must be text, not {value!r}; put it in quotes")


def _mapping(front: FrontMatter, at: tuple[str, ...], allowed: Sequence[str] = ()) -> dict[str, JSON]:
    value: JSON = front.values
    for key in at:
        value = value.get(key)
    where = ".".join(at)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise front.error(at, f"{where} must be a mapping ('key: value' lines below it), not {value!r}")
    for key in value:
        if allowed and key not in allowed:
            hint = did_you_mean(key, allowed)
            raise front.error((*at, key), f"{where} has no key {key!r}{hint} Allowed: {listed(allowed)}")
    return value


def _sampling(front: FrontMatter) -> tuple[Sampling, dict[str, JSON]]:
    fields: dict[str, JSON] = {}
    further: dict[str, JSON] = {}
    for key, value in _mapping(front, ("config",)).items():
        if key not in _SAMPLING:
            further[key] = value
            continue
        name, kind = _SAMPLING[key]
        if value is None:
            continue
        if not _is(value, kind):
            raise front.error(("config", key), f"config.{key} must be {kind}, not {value!r}")
        if key in ("maxOutputTokens", "topK") and value < 1:
            raise front.error(("config", key), f"config.{key} must be at least 1, not {value!r}")
        fields[name] = tuple(value) if isinstance(value, list) else value
    return Sampling(**fields), further


def _is(value: JSON, kind: Literal["a number", "a whole number", "a list of texts"]) -> bool:
    match kind:
        case "a number":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "a whole number":
            return isinstance(value, int) and not isinstance(value, bool)
        case "a list of texts":
            return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _output(front: FrontMatter) -> Output:
    output = _mapping(front, ("output",), ("format", "schema"))
    kind = output.get("format")
    if kind not in (None, "text", "json"):
        raise front.error(("output", "format"), f"output.format must be 'text' or 'json', not {kind!r}")
    if output.get("schema") is None:
        return JsonOutput() if kind == "json" else TextOutput()
    if kind == "text":
        raise front.error(("output", "format"), "output.format is text, but a schema needs json; remove one")
    schema = _schema(front, ("output", "schema"))
    try:
        compile_schema(schema)
    except SchemaProblem as exc:
        raise front.error(("output", "schema", *exc.location), f"output.schema: {exc.problem}") from exc
    return SchemaOutput(schema)


def _schema(front: FrontMatter, at: tuple[str, str]) -> Schema:
    try:
        return to_json_schema(front.values[at[0]][at[1]])
    except SchemaProblem as exc:
        raise front.error((*at, *exc.location), f"{'.'.join(at)}: {exc.problem}") from exc


def _inputs(front: FrontMatter, body: template.Template, name: str) -> Inputs:
    declared = _mapping(front, ("input",), ("schema", "default"))
    defaults = _mapping(front, ("input", "default")) if declared else {}
    schema = validator = None
    if declared.get("schema") is not None:
        schema = _schema(front, ("input", "schema"))
        if schema.get("type") != "object":
            raise front.error(
                ("input", "schema"),
                "input.schema must describe an object, the variables by name (a field that is called 'type'"
                " makes it JSON Schema; then write it as 'type: object' with 'properties')",
            )
        try:
            validator = compile_schema(schema)
        except SchemaProblem as exc:
            raise front.error(("input", "schema", *exc.location), f"input.schema: {exc.problem}") from exc
    inputs = Inputs(name, tuple(body.variables), body.whole_input, schema, defaults, validator)
    _check_names(front, body, inputs)
    return inputs


def _check_names(front: FrontMatter, body: template.Template, inputs: Inputs) -> None:
    """The body may use only what the schema declares; defaults must be for known names and fit the schema."""
    if inputs.schema is not None and not inputs.open:
        for variable, offset in body.variables.items():
            if variable not in inputs.declared:
                hint = did_you_mean(variable, inputs.declared)
                problem = f"the variable {variable!r} is not in input.schema{hint}"
                raise front.source.error(offset, f"{problem} It has: {listed(inputs.declared)}")
    for variable in inputs.defaults:
        at: Location = ("input", "default", variable)
        if variable not in inputs.known and not inputs.open:
            hint = did_you_mean(variable, inputs.known)
            raise front.error(at, f"input.default has {variable!r}, which the prompt does not use{hint}")
    misfit = inputs.misfit_of_defaults()
    if misfit is not None:
        location, message = misfit
        raise front.error(
            ("input", "default", *location), f"input.default does not fit input.schema: {message}"
        )
