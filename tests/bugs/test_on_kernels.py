"""Every kernel here answers each bug as its verdicts.md says, to itstrace and to the C file.

`make test-bugs`: some of the kernels die of it. A kernel that no table names is not asked.
"""

from __future__ import annotations

import json
import os
import re
import shutil

import pytest

from replay import cli, kernels
from tests.support.bugs import NAMES, Bug, asked, image

pytestmark = [
    pytest.mark.skipif(not os.environ.get("ITSTRACE_BUGS"), reason="`make test-bugs` runs them"),
    pytest.mark.skipif(not shutil.which("qemu-system-aarch64"), reason="needs a QEMU"),
]
KERNELS = {image(each): each for each in kernels.here()}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kernel", KERNELS)
def test_a_kernel_answers_as_the_table_says(name, kernel):
    rows = Bug(name).rows()
    if kernel not in rows:
        pytest.skip(f"no table has {kernel}")
    assert asked(Bug(name), KERNELS[kernel]) == rows[kernel]


@pytest.mark.parametrize(
    ("name", "between"), [("F1", None), ("F3", ("5.10.223", "6.1.176")), ("F4", ("6.1.176", "6.1.192"))]
)  # fmt: skip
def test_a_list_of_kernels_tells_where_it_changed(name, between, capsys):
    order = sorted(KERNELS, key=lambda each: [int(n) for n in re.findall(r"[0-9]+", each)])
    known = [each for each in order if each in Bug(name).rows()]
    if between and not {f"linux-{each}" for each in between} <= set(known):
        pytest.skip(f"needs the kernels {' and '.join(between)}")
    targets = [f"kvm:{KERNELS[each].path}" for each in known]
    code = cli.main(["bisect", str(Bug(name).least), "--json", "--over", *targets])
    found = json.loads(capsys.readouterr().out)
    if between is None:
        assert (code, found["boundary"]) == (4, None)
        return
    assert code == 1
    sides = [known[found["boundary"][side]] for side in ("last", "first")]
    assert sides == [f"linux-{each}" for each in between]


def test_the_kernels_on_both_sides_of_a_fix_are_here():
    assert {"linux-6.1.176", "linux-6.1.192"} <= KERNELS.keys(), (
        "itstrace kernels bookworm bookworm-security"
    )
