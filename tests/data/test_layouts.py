"""Where photos and masks lie; what is wrong is said in one sentence that names the place."""

import os
from pathlib import Path

import pytest
from PIL import Image

from diffad_jax.data import layouts, listing
from diffad_jax.data.listing import DataError


def make(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def make_labels(root, **defects):
    """A label image for each name, white in one pixel where the value is true."""
    for name, is_defect in defects.items():
        Image.new("L", (3, 3), 0).save(root / name.replace("__", "."))
        if is_defect:
            image = Image.new("L", (3, 3), 0)
            image.putpixel((1, 1), 1)
            image.save(root / name.replace("__", "."))


def short(records, root):
    return [
        (Path(r.file).relative_to(root).as_posix(), r.split, r.defect_type, r.mask is not None)
        for r in records
    ]


def test_mvtec(tmp_path):
    make(
        tmp_path,
        "nut/train/good/001.png",
        "nut/train/good/000.png",
        "nut/train/good/.DS_Store.png",
        "nut/train/good/readme.txt",
        "nut/train/good/folder.png/x.png",
        "nut/test/good/000.png",
        "nut/test/bent/000.png",
        "nut/ground_truth/bent/000_mask.png",
    )
    records = layouts.read_category(tmp_path, "nut", "mvtec")
    assert short(records, tmp_path) == [
        ("nut/test/bent/000.png", "test", "bent", True),
        ("nut/test/good/000.png", "test", "good", False),
        ("nut/train/good/000.png", "train", "good", False),
        ("nut/train/good/001.png", "train", "good", False),
    ]
    assert [r.is_anomalous for r in records] == [True, False, False, False]
    assert layouts.list_categories(tmp_path, "mvtec") == ["nut"]


def test_mvtec_ad_2(tmp_path):
    make(
        tmp_path,
        "can/train/good/000_regular.png",
        "can/validation/good/001_regular.png",
        "can/test_public/good/002_regular.png",
        "can/test_public/bad/003_regular.png",
        "can/test_public/ground_truth/bad/003_regular_mask.png",
        "can/test_private/004_regular.png",
        "can/test_private_mixed/005_mixed.png",
    )
    records = layouts.read_category(tmp_path, "can", "mvtec_ad2")
    assert short(records, tmp_path) == [
        ("can/test_public/bad/003_regular.png", "test", "bad", True),
        ("can/test_public/good/002_regular.png", "test", "good", False),
        ("can/train/good/000_regular.png", "train", "good", False),
        ("can/validation/good/001_regular.png", "train", "good", False),
    ]
    kept, held_out = layouts.split_validation(records[2:], 0.1, seed=0)
    assert (kept, held_out) == (records[2:3], records[3:])
    assert layouts.split_validation(records[2:], 0.0, seed=0) == (records[2:3], [])


def test_visa_by_its_table(tmp_path):
    make(tmp_path, "candle/Data/Images/Normal/0.JPG", "candle/Data/Images/Normal/1.JPG")
    make(tmp_path, "candle/Data/Images/Anomaly/0.JPG", "candle/Data/Masks/Anomaly/0.png")
    make(tmp_path, "pcb1/Data/Images/Normal/0.JPG", "candle/Data/Images/Anomaly/7.JPG")
    (tmp_path / "split_csv").mkdir()
    rows = [
        "\ufeffobject,split,label,image,mask",
        "candle,train,normal,candle/Data/Images/Normal/0.JPG,",
        "candle,test,normal,candle/Data/Images/Normal/1.JPG,",
        "candle,test,anomaly,candle/Data/Images/Anomaly/0.JPG,candle/Data/Masks/Anomaly/0.png",
        "pcb1,train,normal,pcb1/Data/Images/Normal/0.JPG,",
    ]
    table = tmp_path / "split_csv" / "1cls.csv"
    table.write_text("\n".join(rows), encoding="utf-8")
    assert layouts.list_categories(tmp_path, "visa") == ["candle", "pcb1"]
    records = layouts.read_category(tmp_path, "candle", "visa")
    assert short(records, tmp_path) == [
        ("candle/Data/Images/Anomaly/0.JPG", "test", "anomaly", True),
        ("candle/Data/Images/Normal/0.JPG", "train", "good", False),
        ("candle/Data/Images/Normal/1.JPG", "test", "good", False),
    ]
    rows += ["candle,test,anomaly,candle/Data/Images/Anomaly/7.JPG,"]
    table.write_text("\n".join(rows), encoding="utf-8")
    with pytest.raises(DataError, match="Anomaly/7.JPG is listed as anomaly without a mask"):
        layouts.read_category(tmp_path, "candle", "visa")
    table.write_text(rows[0] + "\npcb1,train,normal\n", encoding="utf-8")
    with pytest.raises(DataError, match="1cls.csv needs the columns object, split, label"):
        layouts.read_category(tmp_path, "pcb1", "visa")
    table.write_text(rows[0] + "\npcb1,tran,normal,a.JPG,\n", encoding="utf-8")
    with pytest.raises(DataError, match="1cls.csv, row 2 has the split 'tran'"):
        layouts.read_category(tmp_path, "pcb1", "visa")


def test_visa_reordered_into_folders(tmp_path):
    make(tmp_path, "candle/train/good/0.JPG", "candle/test/bad/1.JPG")
    make(tmp_path, "candle/ground_truth/bad/1.png")
    assert short(layouts.read_category(tmp_path, "candle", "visa"), tmp_path) == [
        ("candle/test/bad/1.JPG", "test", "bad", True),
        ("candle/train/good/0.JPG", "train", "good", False),
    ]
    make(tmp_path, "pcb1/Data/Images/Normal/0.JPG")
    with pytest.raises(DataError, match=r"train/good, or list them in .*split_csv/1cls.csv"):
        layouts.read_category(tmp_path, "pcb1", "visa")


def test_btad_says_ok_and_ko(tmp_path):
    make(tmp_path, "03/train/ok/0.bmp", "03/test/ok/1.bmp", "03/test/ko/2.bmp")
    make(tmp_path, "03/ground_truth/ko/2.png")
    assert short(layouts.read_category(tmp_path, "03", "mvtec"), tmp_path) == [
        ("03/test/ko/2.bmp", "test", "ko", True),
        ("03/test/ok/1.bmp", "test", "good", False),
        ("03/train/ok/0.bmp", "train", "good", False),
    ]


def test_kolektor_sdd_tests_on_the_normal_photos_of_each_fifth_workpiece(tmp_path):
    for i in range(1, 6):
        make(tmp_path, f"sdd/kos0{i}/Part0.jpg", f"sdd/kos0{i}/Part1.jpg")
        labels = {"Part0_label__bmp": i == 2, "Part1_label__bmp": False}
        make_labels(tmp_path / "sdd" / f"kos0{i}", **labels)
    records = short(layouts.read_category(tmp_path, "sdd", "kolektor_sdd"), tmp_path)
    assert [r for r in records if r[1] == "test"] == [
        ("sdd/kos02/Part0.jpg", "test", "defect", True),
        ("sdd/kos05/Part0.jpg", "test", "good", False),
        ("sdd/kos05/Part1.jpg", "test", "good", False),
    ]
    assert len(records) == 10 and {r[2] for r in records if r[1] == "train"} == {"good"}


def test_kolektor_sdd2_leaves_out_the_defects_of_the_training_folder(tmp_path):
    names = ("train/10000", "train/10001", "train/10001 (copy)", "test/20000", "test/20001")
    make(tmp_path, *(f"sdd2/{n}.png" for n in names))
    train, test = tmp_path / "sdd2" / "train", tmp_path / "sdd2" / "test"
    make_labels(train, **{"10000_GT__png": True, "10001_GT__png": False})
    make_labels(train, **{"10001_GT (copy)__png": False})
    make_labels(test, **{"20000_GT__png": True, "20001_GT__png": False})
    assert short(layouts.read_category(tmp_path, "sdd2", "kolektor_sdd2"), tmp_path) == [
        ("sdd2/test/20000.png", "test", "defect", True),
        ("sdd2/test/20001.png", "test", "good", False),
        ("sdd2/train/10001.png", "train", "good", False),
    ]
    (test / "20001_GT.png").write_bytes(b"x")
    with pytest.raises(DataError, match="cannot read the label .*20001_GT.png"):
        layouts.read_category(tmp_path, "sdd2", "kolektor_sdd2")
    (test / "20001_GT.png").unlink()
    with pytest.raises(DataError, match="test/20001.png has no label beside it: add 20001_GT"):
        layouts.read_category(tmp_path, "sdd2", "kolektor_sdd2")


@pytest.mark.parametrize("place", ["photos/a.png", "photos/good/a.png", "photos/train/good/a.jpg"])
def test_ones_own_folder_needs_good_photos_only(tmp_path, place):
    make(tmp_path, place)
    assert short(layouts.read_category(tmp_path, "photos", "folder"), tmp_path) == [
        (place, "train", "good", False)
    ]


def test_ones_own_folder_may_say_ok(tmp_path):
    make(tmp_path, "photos/a.png", "photos/test/ok/b.png", "photos/test/dent/c.png")
    records = layouts.read_category(tmp_path, "photos", "folder")
    assert [r.defect_type for r in records] == ["good", "dent", "good"]


def test_a_category_without_masks_has_records_without_masks(tmp_path):
    make(tmp_path, "c/train/good/0.png", "c/test/bad/0.png")
    (tmp_path / "c" / "ground_truth").mkdir()
    assert [r.mask for r in layouts.read_category(tmp_path, "c", "mvtec")] == [None, None]


@pytest.mark.parametrize("photo", ["bad/1", "worse/0"])
def test_a_missing_mask_is_named(tmp_path, photo):
    make(tmp_path, "c/train/good/0.png", "c/test/bad/0.png", f"c/test/{photo}.png")
    make(tmp_path, "c/ground_truth/bad/0_mask.png")
    with pytest.raises(DataError, match=rf"test/{photo}.png has no mask.*add .*{photo}_mask.png"):
        layouts.read_category(tmp_path, "c", "mvtec")


def test_missing_root_category_layout_and_photos(tmp_path):
    with pytest.raises(DataError, match="no folder .*nowhere: name the one .*--config.data.root="):
        layouts.read_category(tmp_path / "nowhere", "c", "mvtec")
    make(tmp_path, "bolt/train/good/0.png", "empty/train/good/notes.txt")
    with pytest.raises(DataError, match="no category 'blot' in .*; there is bolt, empty"):
        layouts.read_category(tmp_path, "blot", "mvtec")
    with pytest.raises(DataError, match="empty is empty of normal photos: put them into .*good"):
        layouts.read_category(tmp_path, "empty", "mvtec")
    with pytest.raises(DataError, match="config.data.layout = 'mvtek': choose one of mvtec"):
        layouts.read_category(tmp_path, "bolt", "mvtek")


def test_an_unreadable_folder_is_named(tmp_path, monkeypatch):
    make(tmp_path, "c/train/good/0.png")
    scandir = listing.os.scandir

    def refuse(folder):
        if str(folder).endswith("train/good"):
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(listing.os, "scandir", refuse)
    with pytest.raises(DataError, match="cannot read the folder .*train/good: Permission denied"):
        layouts.read_category(tmp_path, "c", "mvtec")


def test_links_in_a_loop_and_links_to_nothing(tmp_path):
    make(tmp_path, "c/train/good/0.png", "c/test/bad/0.png")
    (tmp_path / "c/test/bad/up").symlink_to(tmp_path)
    (tmp_path / "c/test/loop").symlink_to("loop")
    (tmp_path / "c/train/good/1.png").symlink_to("1.png")
    (tmp_path / "c/train/good/2.png").symlink_to("nowhere.png")
    files = [Path(r.file).name for r in layouts.read_category(tmp_path, "c", "mvtec")]
    assert files == ["0.png", "0.png", "1.png", "2.png"]  # who reads the links gets an error
    (tmp_path / "d").mkdir()
    (tmp_path / "d/train").symlink_to("train")
    with pytest.raises(DataError, match=r"cannot read the folder .*d/train"):
        layouts.read_category(tmp_path, "d", "mvtec")


def test_long_and_foreign_names(tmp_path):
    name = "größe_ネジ_" + "x" * 200
    make(tmp_path, f"écrou/train/good/{name}.png", f"écrou/test/kratzer ß/{name}.png")
    make(tmp_path, f"écrou/ground_truth/kratzer ß/{name}_mask.png")
    records = layouts.read_category(tmp_path, "écrou", "mvtec")
    assert [r.defect_type for r in records] == ["kratzer ß", "good"] and records[0].mask


@pytest.mark.parametrize(
    ("count", "share", "held_out"),
    [(10, 0.6, 6), (10, 0.01, 3), (1, 0.5, 0), (10, 0.0, 0), (4, 1.0, 2), (2, 0.5, 0), (3, 0.1, 1),
     (18, 0.1, 6), (56, 0.1, 18), (57, 0.1, 19), (150, 0.1, 19), (200, 0.1, 20)],
)  # fmt: skip
def test_validation_split(count, share, held_out):
    records = [layouts.Record(f"{i}.png", "train", "good", None) for i in range(count)]
    train, validation = layouts.split_validation(records, share, seed=0)
    assert len(validation) == held_out and len(train) == count - held_out
    assert sorted(train + validation, key=records.index) == records
    assert layouts.split_validation(records, share, seed=0) == (train, validation)


def test_another_seed_holds_out_others():
    records = [layouts.Record(f"{i}.png", "train", "good", None) for i in range(50)]
    held_out = [layouts.split_validation(records, 0.2, seed)[1] for seed in (0, 1)]
    assert held_out[0] != held_out[1]


def left_out(tmp_path, layout="mvtec"):
    return [s.replace(f"{tmp_path}/", "") for s in layouts.survey(tmp_path, "c", layout).left_out]


def test_whatever_is_not_read_is_counted(tmp_path, caplog):
    make(tmp_path, "c/train/good/0.png", "c/train/good/1.webp", "c/train/good/2.JFIF")
    make(tmp_path, "c/train/good/day2/3.png", "c/train/good/day2/4.png", "c/train/5.png")
    make(tmp_path, "c/test/6.png", "c/test/bad/7.png", "c/test/bad/more/8.png", "c/9.pgm")
    make(tmp_path, "c/ground_truth/bad/7_mask.png", "c/ground_truth/bad/70_mask.png")
    make(tmp_path, "c/train/NG/10.png", "c/readme.txt", "c/.DS_Store", "c/Thumbs.db")
    (tmp_path / "c/ground_truth/good").mkdir()
    found = left_out(tmp_path)
    assert [s.split(":")[0] for s in found] == [
        "1 file is not read in c (1 .pgm)",
        "1 image is left out in c/ground_truth/bad, such as 70_mask.png",
        "1 image is left out in c/test, such as 6.png",
        "1 image is left out in c/test/bad/more, such as 8.png",
        "1 image is left out in c/train, such as 5.png",
        "1 image is left out in c/train/NG, such as 10.png",
        "2 files are not read in c/train/good (1 .webp, 1 .jfif)",
        "2 images are left out in c/train/good/day2, such as 3.png",
    ]
    assert "put them into its folder good, or into one that is named for the defect" in found[2]
    assert "photos to train on belong into train/good, others into test/DEFECT" in found[4]
    layouts._say_once.cache_clear()
    for _ in range(2):
        layouts.read_category(tmp_path, "c", "mvtec")
    said = [r.getMessage().replace(f"{tmp_path}/", "") for r in caplog.records]
    assert said == [f"c: {s}" for s in found]


def test_a_folder_below_photos_that_lie_directly_in_theirs(tmp_path):
    make(tmp_path, "c/0.png", "c/tuesday/1.png")
    (said,) = layouts.survey(tmp_path, "c", "folder").left_out
    assert said == (
        f"1 image is left out in {tmp_path}/c/tuesday, such as 1.png: photos to train on belong "
        f"into {tmp_path}/c itself, others into test/DEFECT"
    )


def test_many_places_are_cut_short(tmp_path, caplog):
    make(tmp_path, "c/train/good/0.png", *(f"c/train/good/{i}/0.png" for i in range(12)))
    layouts._say_once.cache_clear()
    layouts.read_category(tmp_path, "c", "mvtec")
    assert len(caplog.records) == 11
    assert caplog.records[-1].getMessage() == "c: 2 more such places"


def test_a_folder_without_normal_photos_says_what_lies_there(tmp_path):
    make(tmp_path, "c/train/good/0.webp")
    with pytest.raises(DataError, match=r"empty of normal photos.*1 file is not read.*1 \.webp"):
        layouts.read_category(tmp_path, "c", "folder")


@pytest.mark.parametrize("good", ["OK", "Good", "NORMAL", "ok"])
@pytest.mark.parametrize("layout", ["mvtec", "folder", "visa", "mvtec_ad2"])
def test_names_of_good_folders_in_any_case(tmp_path, good, layout):
    test = "Test_Public" if layout == "mvtec_ad2" else "TEST"
    masks = "test_public/Ground_truth" if layout == "mvtec_ad2" else "Ground_Truth"
    masks = masks.replace("test_public", test)
    make(tmp_path, f"c/Train/{good}/0.png", f"c/{test}/{good}/1.png", f"c/{test}/NG/2.png")
    make(tmp_path, f"c/{masks}/ng/2_mask.png")
    assert short(layouts.read_category(tmp_path, "c", layout), tmp_path) == sorted(
        [
            (f"c/{test}/NG/2.png", "test", "NG", True),
            (f"c/{test}/{good}/1.png", "test", "good", False),
            (f"c/Train/{good}/0.png", "train", "good", False),
        ]
    )
    assert left_out(tmp_path, layout) == []


def test_all_folders_of_good_photos_are_taken(tmp_path):
    make(tmp_path, "c/train/good/0.png", "c/train/OK/1.png")
    assert len(layouts.read_category(tmp_path, "c", "mvtec")) == 2


def test_ones_own_folder_may_hold_ok_and_ng_side_by_side(tmp_path):
    make(tmp_path, "c/OK/0.png", "c/NG/1.png", "c/scratch/2.png")
    assert short(layouts.read_category(tmp_path, "c", "folder"), tmp_path) == [
        ("c/NG/1.png", "test", "NG", False),
        ("c/OK/0.png", "train", "good", False),
    ]
    assert len(left_out(tmp_path, "folder")) == 1


def test_names_whose_accents_macos_takes_apart(tmp_path):
    composed, apart = "gr\u00f6\u00dfe", "gro\u0308\u00dfe"
    make(tmp_path, f"{apart}/train/good/0.png", f"{apart}/test/{apart}/{composed}.png")
    make(tmp_path, f"{apart}/ground_truth/{composed}/{apart}_mask.png")
    records = layouts.read_category(tmp_path, composed, "mvtec")
    assert [r.mask is not None for r in records] == [True, False]


def test_photos_of_one_name_keep_their_own_masks(tmp_path):
    twins = ("\u00f6", "o\u0308")
    for name in twins:
        make(tmp_path, f"c/test/bad/{name}.png", f"c/ground_truth/bad/{name}_mask.png")
    make(tmp_path, "c/train/good/0.png")
    records = [r for r in layouts.read_category(tmp_path, "c", "mvtec") if r.mask]
    assert all(Path(r.mask).stem == Path(r.file).stem + "_mask" for r in records)


def test_all_missing_masks_are_faults(tmp_path):
    make(tmp_path, "c/train/good/0.png", *(f"c/test/bad/{i}.png" for i in range(4)))
    make(tmp_path, "c/ground_truth/bad/0_mask.png")
    assert len(layouts.survey(tmp_path, "c", "mvtec").faults) == 3
    with pytest.raises(DataError, match="1.png has no mask.*2 more such faults"):
        layouts.read_category(tmp_path, "c", "mvtec")


def test_names_that_are_no_utf_8(tmp_path):
    odd = os.fsdecode(b"\xfc")
    make(tmp_path, f"c/train/good/{odd}.png", f"c/test/{odd}/{odd}.png")
    make(tmp_path, f"c/ground_truth/{odd}/{odd}_mask.png", f"{odd}/train/good/0.png")
    records = layouts.read_category(tmp_path, "c", "mvtec")
    assert [(r.defect_type, r.mask is not None) for r in records] == [(odd, True), ("good", False)]
    with pytest.raises(DataError, match="no UTF-8, which checkpoints cannot have: rename it"):
        layouts.read_category(tmp_path, odd, "mvtec")
