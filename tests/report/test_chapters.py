"""Every task has an entry where results and pages look for what it shows."""

from __future__ import annotations

from pertscale.report.chapters import CHAPTERS
from pertscale.results.summaries import SCORE_TABLES
from pertscale.schema import SETTING_DOCS, SETTINGS, TASK_DOCS, TASKS


def test_every_task_has_words_a_chapter_and_a_table_or_none():
    assert set(TASKS) == set(TASK_DOCS) == set(CHAPTERS) == set(SCORE_TABLES)
    assert set(SETTINGS) == set(SETTING_DOCS)


def test_links_of_chapters_differ():
    titles = [chapter.title for chapter in dict.fromkeys(CHAPTERS.values())]
    assert len({title.lower() for title in titles}) == len(titles)
