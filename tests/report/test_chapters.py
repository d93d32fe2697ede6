"""Every kind of scores has what results and pages show of it."""

from __future__ import annotations

from pertscale.report.chapters import CHAPTERS
from pertscale.results.summaries import SCORE_TABLES
from pertscale.schema import SCORE_KINDS, SETTING_DOCS, SETTINGS, TASK_DOCS, TASKS


def test_every_task_has_words_and_a_chapter():
    assert set(TASKS) == set(TASK_DOCS) == set(SCORE_KINDS)
    assert set(SCORE_KINDS.values()) == set(CHAPTERS)
    assert set(SCORE_TABLES) < set(CHAPTERS)
    assert set(SETTINGS) == set(SETTING_DOCS)


def test_links_of_chapters_differ():
    titles = [chapter.title for chapter in CHAPTERS.values()]
    assert len({title.lower() for title in titles}) == len(titles)
