"""Every kernel here answers each bug as its verdicts.md says, to itstrace and to the C file.

`make test-bugs`: some of the kernels die of it. A kernel that no table names is not asked.
"""

from __future__ import annotations

import os
import shutil

import pytest

from replay import kernels
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


def test_the_kernels_on_both_sides_of_a_fix_are_here():
    assert {"linux-6.1.176", "linux-6.1.192"} <= KERNELS.keys(), (
        "itstrace kernels bookworm bookworm-security"
    )
