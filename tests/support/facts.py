"""What docs/ says of events, registers and commands, from the tables of the code.

Counterpart: `tests.support.gendocs`, which puts it on the pages.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from replay.judge import model_of
from replay.profiles import PROFILES
from tracer.events import ENTRY_FIELDS, FIRST_NOTE, FIRST_OUTPUT, KINDS, REQUIRED, TABLES, Field
from tracer.its.command_errors import COMMAND_ERRORS
from tracer.its.commands import COMMANDS
from tracer.its.layout import Field as Bits
from tracer.its.registers import GICR_REGISTERS, ITS_REGISTERS, Register, its_register
from tracer.log.header import Header

IMAGES = ("qemu-7.2.22", "linux-6.1.192")  # whose values after a start the registers' page has
BITS_OF_A_DOUBLEWORD = 64


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [f"| {' | '.join(heads).strip()} |", f"|{'---|' * len(heads)}"]
    lines += [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    return "\n".join(lines)


# -- events


def events() -> str:
    """Return every kind: its number, its class, what it means, and its fields."""
    rows = (
        (str(number), f"`{cls.name}`", _class(number), (cls.__doc__ or "").strip(), _fields(cls.fields))
        for number, cls in KINDS.items()
    )  # fmt: skip
    return table(("n", "kind", "class", "what happened", "fields"), rows)


def _class(number: int) -> str:
    return "input" if number < FIRST_OUTPUT else "output" if number < FIRST_NOTE else "note"


def _fields(fields: Iterable[Field]) -> str:
    return "; ".join(_field(each) for each in fields)


def _field(field: Field) -> str:
    form = field.form if isinstance(field.form, str) else " ".join(field.form)
    words = f"`{field.name}` ({form})"
    if field.default is not REQUIRED:
        words += f" = {_default(field)}"
    return words + (f", {field.doc}" if field.doc else "")


def _default(field: Field) -> str:
    if not isinstance(field.default, int):
        return "null"
    if isinstance(field.form, tuple):
        return field.form[field.default]
    return hex(field.default) if field.form == "hex" else str(field.default)


def entries() -> str:
    """Return what e1 to e5 are, by table."""
    return table(
        ("table", "e1 to e5"), ((TABLES[n], ", ".join(f)) for n, f in ENTRY_FIELDS.items())
    )


# -- registers


def its_registers() -> str:
    """Return every register of the ITS."""
    return _registers(ITS_REGISTERS, fresh=True)


def gicr_registers() -> str:
    """Return every register of a redistributor that has to do with LPIs."""
    return _registers(GICR_REGISTERS, fresh=False)


def _registers(rows: Iterable[Register], *, fresh: bool) -> str:
    values = [_fresh(name) for name in IMAGES] if fresh else []
    heads = ["offset", "register", "guest", "VMM", "bytes", "fields"]
    heads += [f"fresh, {name}" for name in IMAGES] if fresh else []
    return table(heads, (_register(row, values) for row in rows))


def _register(row: Register, values: Sequence[dict[str, int]]) -> list[str]:
    cells = [f"{row.offset:#07x}", _named(row), row.guest, row.vmm]
    cells.append(" ".join(map(str, row.widths)))
    cells.append(", ".join(map(_bits, row.layout.fields_)))
    return cells + [_value(row, each) for each in values]


def _named(row: Register) -> str:
    """Return the register's name, or the first and the last of several."""
    if row.count == 1:
        return row.name
    last = row.offset + (row.count - 1) * row.stride
    names = [its_register(at)[0] for at in (row.offset, last)]
    return f"{names[0]} to {names[1]}, every {row.stride} bytes"


def _bits(field: Bits) -> str:
    place = str(field.lo) if field.lo == field.hi else f"{field.hi}:{field.lo}"
    return f"{field.name} [{place}]"


def _fresh(profile: str) -> dict[str, int]:
    """Return the registers of a device that was just made, as the model of that image has them."""
    return model_of(Header(cpus=1), PROFILES[profile]).registers()


def _value(row: Register, values: dict[str, int]) -> str:
    names = [row.name] if row.count == 1 else [f"{row.name}{n}" for n in range(row.count)]
    found = [values[name] for name in names if name in values]
    while len(found) > 1 and found[-1] == found[-2] == 0:
        found.pop()
    return " ".join(map(hex, found))


# -- commands


def commands() -> str:
    """Return every command: its opcode, where its fields are, and the errors that it can meet."""
    rows = (
        (f"{int(spec.opcode):#04x}", spec.name, spec.since, _operands(spec.layout.fields_),
         ", ".join(f"{name} {COMMAND_ERRORS[name]:#08x}" for name in spec.errors))
        for spec in COMMANDS
    )  # fmt: skip
    return table(("opcode", "command", "since", "fields", "errors"), rows)


def _operands(fields: Iterable[Bits]) -> str:
    return ", ".join(_operand(each) for each in fields if each.name != "Opcode")


def _operand(field: Bits) -> str:
    index, low = divmod(field.lo, BITS_OF_A_DOUBLEWORD)
    high = field.hi % BITS_OF_A_DOUBLEWORD
    return f"{field.name} dw{index}[{low if low == high else f'{high}:{low}'}]"
