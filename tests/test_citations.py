"""What documents and code say of each other: citations of docs/method.md, words of the glossary."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
METHOD = ROOT / "docs" / "method.md"
#: One label: a letter with or without a number (H4.1 is a step of H4), or one of the conventions.
LABEL = r"(?:0\.\d|[A-Z]\d*(?:\.\d+)?)"
HEADING = re.compile(rf"^#+ ({LABEL}) ", re.MULTILINE)
CITATION = re.compile(rf"\(method\s+({LABEL}(?:(?:,\s|\sand\s|-){LABEL})*)(?=[),:;]|\s)")
#: What looks like a citation, also where it does not have the form of one.
ATTEMPT = re.compile(r"\(method\s+[A-Z0-9]")


def documents() -> Iterator[Path]:
    """The files that may cite: code, tests, and what is read beside them."""
    for folder in ("pertscale", "tests", "docs", "benchmarks", "examples"):
        for ending in ("*.py", "*.md", "*.html"):
            yield from (ROOT / folder).rglob(ending)
    yield from (ROOT / name for name in ("README.md", "CONTRIBUTING.md"))


def sections() -> set[str]:
    """The labels of the headings; a letter by itself stands for all of its sections."""
    return set(HEADING.findall(METHOD.read_text("utf-8")))


def cited(text: str) -> Iterator[str]:
    """The labels that a text cites, ranges such as J5-J7 with all between."""
    for match in CITATION.finditer(text):
        for group in re.split(r",\s|\sand\s", match[1]):
            first, _, last = group.partition("-")
            if last:
                letter, numbers = first[0], range(int(first[1:]), int(last[1:]) + 1)
                assert last[0] == letter, f"{group}: a range is within a letter"
                yield from (f"{letter}{number}" for number in numbers)
            else:
                yield first


def faults(text: str, labels: set[str]) -> list[str]:
    """What is wrong with the citations of a text."""
    wrong = [f"no section {label}" for label in cited(text) if label not in labels]
    malformed = len(ATTEMPT.findall(text)) - len(CITATION.findall(text))
    return wrong + [f"{malformed} citations that cannot be read"] * bool(malformed)


def test_every_citation_names_a_section():
    labels = sections()
    found = {
        str(path.relative_to(ROOT)): faults(path.read_text("utf-8"), labels)
        for path in documents()
        if path != Path(__file__)
    }
    assert {path: wrong for path, wrong in found.items() if wrong} == {}
    assert sum(len(list(cited(path.read_text("utf-8")))) for path in documents()) > 100


def test_every_heading_is_there_once():
    labels = HEADING.findall(METHOD.read_text("utf-8"))
    assert len(labels) == len(set(labels))


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("the test (method B1), then (method H1-H3, K2)", []),
        ("the density (method J2; as locfdr)", []),
        ("the fate (method Z9)", ["no section Z9"]),
        ("a range (method J8-J9)", ["no section J9"]),
        ("wrapped (method\n    B99)", ["no section B99"]),
        ("(method B1/B2)", ["1 citations that cannot be read"]),
    ],
)
def test_planted_citations(text, wrong):
    assert faults(text, sections()) == wrong


def test_documents_outside_the_repository_are_not_cited():
    outside = re.compile(r"\(?\b(?:SPEC|TRUST|REDESIGN) [A-Z0-9]")
    found = {
        str(path.relative_to(ROOT)): outside.findall(path.read_text("utf-8"))
        for path in documents()
        if path != Path(__file__)
    }
    assert {path: lines for path, lines in found.items() if lines} == {}


def test_the_words_of_the_glossary_are_names_in_the_code():
    """A class, an alias of types, a module or a folder has the name of each concept."""
    text = (ROOT / "docs" / "glossary.md").read_text("utf-8")
    concepts = re.findall(r"\*\*(\w+)\*\*", text[: text.index("## Words of the code")])
    assert len(concepts) > 16
    package = ROOT / "pertscale"
    code = "\n".join(path.read_text("utf-8") for path in package.rglob("*.py"))
    defined = set(re.findall(r"^(?:class )?(\w+)(?=[(:]| = )", code, re.MULTILINE))
    modules = {path.stem for path in package.rglob("*")}
    snake = {name: re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower() for name in concepts}
    assert [n for n in concepts if n not in defined and snake[n] not in modules] == []
