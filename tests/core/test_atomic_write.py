from pathlib import Path

import pytest

from cspine.core.atomic_write import replace_folder, written_folder, written_whole


def test_the_file_appears_with_the_end_of_the_block(tmp_path):
    path = tmp_path / "new" / "best.h5"
    with written_whole(path) as part:
        # The ending is kept, since some writers add their own where it is another.
        assert part.suffix == ".h5" and part.parent == path.parent
        part.write_bytes(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new" and list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_an_error_leaves_the_old_file_and_no_half(tmp_path, error):
    path = tmp_path / "best.h5"
    path.write_bytes(b"old")
    with pytest.raises(error), written_whole(path) as part:
        part.write_bytes(b"ha")
        raise error
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_a_folder_in_its_place_is_refused_and_kept(tmp_path):
    (tmp_path / "report.json" / "kept").mkdir(parents=True)
    with pytest.raises(OSError), written_whole(tmp_path / "report.json") as part:
        part.write_text("new")
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]
    assert (tmp_path / "report.json" / "kept").is_dir()


def test_a_folder_appears_with_the_end_of_the_block_in_place_of_the_old_one(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "old").touch()
    with written_folder(tmp_path / "set", replace=True) as part:
        (part / "new").touch()
        assert (tmp_path / "set" / "old").exists()
    assert [path.name for path in (tmp_path / "set").iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_an_error_leaves_the_old_folder_and_no_half(tmp_path):
    (tmp_path / "set").mkdir()
    with pytest.raises(OSError), written_folder(tmp_path / "set") as part:
        (part / "new").touch()
        raise OSError
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    assert list((tmp_path / "set").iterdir()) == []


def test_what_came_into_a_folders_place_meanwhile_is_kept(tmp_path):
    (tmp_path / "set").mkdir()
    with pytest.raises(OSError), written_folder(tmp_path / "set") as part:
        (part / "new").touch()
        (tmp_path / "set" / "somebody's").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    assert [path.name for path in (tmp_path / "set").iterdir()] == ["somebody's"]


def test_a_folder_that_cannot_be_replaced_stays(tmp_path):
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "old").touch()
    with pytest.raises(FileNotFoundError):
        replace_folder(tmp_path / "missing", tmp_path / "report")
    assert [path.name for path in tmp_path.iterdir()] == ["report"]
    assert [path.name for path in (tmp_path / "report").iterdir()] == ["old"]


def test_an_interrupted_replacement_leaves_the_old_folder(tmp_path, monkeypatch):
    for name in ("report", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    rename = Path.rename

    def interrupt(source, target):
        if source.name == "new":
            raise KeyboardInterrupt
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", interrupt)
    with pytest.raises(KeyboardInterrupt):
        replace_folder(tmp_path / "new", tmp_path / "report")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "report"]
    assert (tmp_path / "report" / "report").exists()
