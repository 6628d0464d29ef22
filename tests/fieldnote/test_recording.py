"""The picture in the README is of today's demo."""

import re

from tests.fieldnote.recording import HEIGHT, PICTURE, record


def test_the_picture_is_what_the_demo_shows_today() -> None:
    assert PICTURE.read_text() == record(), "python -m tests.fieldnote.recording"


def test_the_picture_fits_a_screen_and_fetches_nothing() -> None:
    text = PICTURE.read_text()
    assert len(re.findall(r"<clipPath id=.everlog-demo-line-", text)) <= HEIGHT
    assert [url for url in re.findall(r"https?://[^\"'\s)]+", text) if "w3.org" not in url] == []
