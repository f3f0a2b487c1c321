"""Tables of photos: what they may say, and that nothing else comes of any bytes."""

import os
from pathlib import Path

import pytest

from diffad_jax.data import layouts
from diffad_jax.data.listing import DataError
from tests.data import table_mutants

HEADER = "object,split,label,image,mask"
TABLE = "split_csv/1cls.csv"


@pytest.fixture
def root(tmp_path):
    for name in ("nut/0.png", "nut/1.png", "nut/2.png", "nut/2_mask.png", TABLE):
        path = tmp_path / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path / "root"


def write(root, *rows, coding="utf-8"):
    (root / TABLE).write_bytes("\n".join((HEADER, *rows)).encode(coding))


def test_anomalous_rows_for_training_are_not_trained_on(root):
    write(root, "nut,train,normal,nut/0.png,", "nut,train,anomaly,nut/2.png,nut/2_mask.png")
    found = layouts.survey(root, "nut", "visa")
    assert [Path(r.file).name for r in found.records] == ["0.png"]
    assert found.left_out[0].endswith(
        "1 anomalous photos are listed for training, and left out: training is on normal photos"
    )


@pytest.mark.parametrize("coding", ["utf-8-sig", "utf-16"])
def test_labels_in_any_case_either_slash_and_windows_codings(root, coding):
    write(
        root, "nut, train ,OK,nut\\0.png,", "nut,test,Good,nut/1.png,",
        "nut,test,NG,nut/2.png,nut\\2_mask.png", coding=coding,
    )  # fmt: skip
    records = layouts.read_category(root, "nut", "visa")
    assert [r.defect_type for r in records] == ["good", "good", "NG"]
    assert all(os.path.exists(r.file) for r in records)


@pytest.mark.parametrize(
    "place", ["/etc/hosts", "../outside.png", "nut/../../outside.png", "link.png", "linked/a.png",
              "C:\\photos\\a.png", "C:/a.png", "\\\\server\\a.png", "nut/\0.png"]
)  # fmt: skip
@pytest.mark.parametrize("column", ["image", "mask"])
def test_nothing_outside_of_the_root_is_named(root, place, column):
    (root.parent / "outside.png").write_bytes(b"x")
    (root.parent / "beside").mkdir()
    (root / "link.png").symlink_to(root.parent / "outside.png")
    (root / "linked").symlink_to(root.parent / "beside")
    image, mask = (place, "") if column == "image" else ("nut/2.png", place)
    write(root, "nut,train,normal,nut/0.png,", f"nut,test,bad,{image},{mask}")
    with pytest.raises(DataError, match=r"1cls.csv, row 3 names .*, which is no place below"):
        layouts.read_category(root, "nut", "visa")


def test_links_within_the_root_are_followed(root):
    (root / "link.png").symlink_to(root / "nut" / "0.png")
    write(root, "nut,train,normal,link.png,")
    assert len(layouts.read_category(root, "nut", "visa")) == 1


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("nut,train,normal,nut/0.png,", "lists .*0.png once more"),
        ("nut,test,,nut/1.png,", "has no label"),
        ("nut,test,normal,,", "names no image"),
        ("../nut,test,normal,nut/1.png,", "has the object '../nut'"),
        ("nut;test;normal;nut/1.png;", "needs the columns object, split.* separated by commas"),
    ],
)
def test_rows_that_cannot_be(root, row, said):
    write(root, "nut,train,normal,nut/0.png,", row)
    with pytest.raises(DataError, match=said):
        layouts.read_category(root, "nut", "visa")


def test_listed_files_that_are_not_there_are_faults(root):
    write(root, "nut,train,normal,nut/0.png,", *(f"nut,test,normal,no/{i}.png," for i in range(2)))
    assert len(layouts.survey(root, "nut", "visa").faults) == 2
    with pytest.raises(DataError, match="no/0.png is listed in the table, but not there"):
        layouts.read_category(root, "nut", "visa")


def test_no_regular_file(root):
    (root / TABLE).unlink()
    os.mkfifo(root / TABLE)
    with pytest.raises(DataError, match="cannot read the table .*1cls.csv: no regular file"):
        layouts.list_categories(root, "visa")


def test_a_cell_without_end_is_an_error_of_the_table(root):
    write(root, 'nut,train,normal,"' + "x\n" * 70_000)
    with pytest.raises(DataError, match="cannot read the table .*field larger than field limit"):
        layouts.list_categories(root, "visa")


def test_any_bytes_give_rows_or_a_data_error(root):
    refused, read = table_mutants.fuzz(root, rounds=400, seed=0)
    assert refused and read
