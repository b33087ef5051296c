"""Texts that people read hold no word of the list in `tests/plain_english.py`."""

from pathlib import Path

import pytest

from tests.plain_english import INSTEAD, PARTS, ROOT, findings, main, text_files, word_list

PLAIN = """The estimate of log Z is repeated with new seeds, and both error bars are compared with the exact value.
Run it again to continue: a few nats per image, 100 sweeps per step. A process has its own stream, as many as 8.
It reads a file, draws a sample, places the rungs a second time and describes the many images that are left.
Amend the word list, and go online.
"""
PHRASES = [form for phrases in INSTEAD for form in phrases.split(", ")]


@pytest.mark.parametrize("part", sorted(PARTS))
def test_a_part_holds_no_refused_words(part):
    found = [
        finding for path in text_files(PARTS[part]) for finding in findings(path, path.read_text(encoding="utf-8"))
    ]
    assert not found, "\n" + "\n".join(map(str, found))


@pytest.mark.parametrize("phrase", PHRASES)
def test_each_phrase_is_refused_also_across_lines(phrase):
    for name, line_break in (("a.md", "\n"), ("a.py", "\n# "), ("a.sh", "\n")):
        for written in (phrase, phrase.capitalize(), phrase.replace(" ", line_break, 1)):
            found = findings(Path(name), f"# It says\n# {written}, which is wrong.\n")
            assert [finding.phrase.lower().replace("# ", "") for finding in found] == [phrase]
            assert found[0].line == 2


@pytest.mark.parametrize("name", ["a.md", "a.py", "a.sh"])
def test_plain_text_passes(name):
    assert findings(Path(name), f'"""{PLAIN}"""\n') == []


def test_code_is_not_read_but_its_texts_are():
    code = "\n".join(
        [
            "told_of = mend(anew, hush)  # made anew",
            'print("this is so "',
            '      "many times")',
            'note = f"""{mend}',
            'for want of {alike} images"""',
        ]
    )
    found = [(finding.line, finding.phrase) for finding in findings(Path("a.py"), code)]
    assert found == [(1, "anew"), (2, "so many"), (5, "want of")]


def test_code_of_pages_is_not_read_but_its_comments_and_outputs_are():
    page = (
        "The key `anew` of a file, and ``mend``.\n\n```python\nmend(anew)  # made anew\n```\n\n"
        "```text\nmade anew\n```\n\n"
        "```sh\ndvae-eval mend\n# mends it\n```\n"
    )
    assert [finding.line for finding in findings(Path("a.md"), page)] == [4, 8, 13]


def test_only_the_topmost_section_of_the_changelog_is_read():
    text = "# Changelog\n\n## [0.2.0] - Unreleased\n\n- made anew\n\n## [0.1.0]\n\n- told apart\n"
    assert [finding.line for finding in findings(Path("CHANGELOG.md"), text)] == [5]


def test_the_script_prints_a_line_for_each_finding_and_fails(tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text("Text.\n\nMade anew, for want\nof samples.\n", encoding="utf-8")
    assert main([str(tmp_path)]) == 1
    assert capsys.readouterr().out == (
        f"{page}:3: 'anew': write again; new\n{page}:3: 'want of': write lack of; because of too few; without\n"
    )
    page.write_text(PLAIN, encoding="utf-8")
    assert main([str(page)]) == 0
    assert capsys.readouterr().out == ""


def test_the_parts_are_there():
    for names in PARTS.values():
        assert all((ROOT / name).exists() for name in names)
        assert list(text_files(names))


def test_contributing_shows_the_list():
    assert word_list() in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
