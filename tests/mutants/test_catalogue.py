"""The catalogue of faults fits the product as it is, and a sample of it is noticed.

All of it is `python tests/mutants/run.py`.
"""

from __future__ import annotations

import random
import re
from collections import Counter

import pytest

from tests.mutants.catalogue import CONTRACTS, FAULTS, KVM, QEMU, TOPICS, VECTORS, VERDICTS
from tests.mutants.run import FAMILIES, KILLED, ROOT, copy_tree, family_of, judge
from tests.support.compiled import pure_only

SAMPLE = random.Random(3).sample(FAULTS, 5)


def test_every_old_text_stands_once_in_its_file_within_a_line():
    texts = {file: (ROOT / file).read_text() for file in {each.file for each in FAULTS}}
    wrong = [each.name for each in FAULTS if texts[each.file].count(each.old) != 1]
    assert wrong == []
    assert [each.name for each in FAULTS if "\n" in each.old + each.new] == []


def test_every_fault_changes_something_and_leaves_python():
    for each in FAULTS:
        text = (ROOT / each.file).read_text()
        wrong = text.replace(each.old, each.new)
        assert wrong != text, each.name
        if each.file.endswith(".py"):
            compile(wrong, each.file, "exec")


def test_names_and_faults_are_unique():
    assert [name for name, n in Counter(each.name for each in FAULTS).items() if n > 1] == []
    lines = Counter((each.file, each.old, each.new) for each in FAULTS)
    assert [line for line, n in lines.items() if n > 1] == []


def test_no_name_of_a_file_is_given_twice():
    """The second would take the first one's faults to another killer."""
    text = (ROOT / "tests" / "mutants" / "catalogue.py").read_text()
    names = re.findall(r"^(\w+): Final", text, re.MULTILINE)
    assert [name for name, n in Counter(names).items() if n > 1] == []


def test_every_killer_is_there():
    for each in FAULTS:
        if each.killer == VECTORS:
            assert family_of(each) in FAMILIES
        else:
            assert (ROOT / each.killer.partition("::")[0]).is_file()


@pytest.mark.parametrize("topic", TOPICS)
def test_the_vectors_alone_see_two_faults_of_each_topic(topic):
    assert sum(1 for each in KVM if each.topic == topic and each.killer == VECTORS) >= 2


def test_there_are_enough():
    assert len(FAULTS) >= 80
    assert len(CONTRACTS) + len(VERDICTS) >= 20


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return copy_tree(tmp_path_factory.mktemp("tree"))


@pure_only
@pytest.mark.parametrize("fault", SAMPLE, ids=[each.name for each in SAMPLE])
def test_a_sample_is_killed(fault, tree):
    outcome = judge(tree, fault)
    assert outcome.word == KILLED, outcome.detail


@pure_only
def test_a_change_that_is_no_fault_survives_and_an_error_is_not_a_kill(tree):
    harmless = QEMU[0]._replace(new=f"{QEMU[0].old}  # no fault")
    assert judge(tree, harmless).word == "SURVIVED"
    raises = KVM[0]._replace(new="0x03: nothing_of_that_name,")
    assert judge(tree, raises).word == "BROKEN"
    raises = VERDICTS[0]._replace(new="return nothing_of_that_name")
    assert judge(tree, raises).word == "BROKEN"
    assert judge(tree, KVM[0]._replace(old="no such text")).word == "BROKEN"
