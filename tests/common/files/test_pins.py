"""Files whose content belongs to a recipe's meaning."""

import pytest

from twinscale.common.errors import BadInput
from twinscale.common.files.pins import check_pin, pinned_file, unpinned


def test_a_pin_is_of_the_content_and_another_content_is_refused(tmp_path):
    file = tmp_path / "match.toml"
    assert pinned_file(str(file)) == str(file)  # not there yet: it is what a verb will make
    file.write_text("one")
    pinned = pinned_file(str(file))
    assert pinned_file(pinned) == pinned and unpinned(pinned) == file
    check_pin(pinned)
    check_pin(str(file))
    file.write_text("two")
    with pytest.raises(BadInput, match="has another content than what was meant"):
        check_pin(pinned)
    file.unlink()
    with pytest.raises(BadInput, match=r"match\.toml"):
        check_pin(pinned)
