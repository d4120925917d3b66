"""CUB200, Cars196, SOP and In-Shop: every way in which they lie on disk, and what is said of one that is not whole."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest
from scipy.io import savemat

from tests.train.data_sets import (
    MAKERS,
    colour,
    make_cars196,
    make_cub200,
    make_inshop,
    make_sop,
    middle,
    write_annotations,
)

pytest.importorskip("matplotlib")

from train.data import splits
from train.data.registry import DATA_SETS
from train.errors import UserError, one_line


def load(name, path, **options):
    return splits.load(name, str(path), 32, **{"any_count": True, **options})


def refused(name, path, **options):
    """The line that the user gets."""
    with pytest.raises(UserError) as raised:
        load(name, path, **options)
    line = one_line(raised.value)
    assert line == str(raised.value)
    return line


def colours(images):
    """Of each class: the mean colour in the middle, which the makers take from the number of the class alone."""
    pixels = np.stack([middle(np.asarray(images.picture(i))).mean((0, 1)) for i in range(len(images))])
    return np.stack([pixels[images.labels == label].mean(0) for label in range(len(images.names))])


def expected_colours(labels):
    return np.stack([colour(label) for label in labels])


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("at", ["folder", "parent"])
def test_the_first_half_of_the_classes_trains(tmp_path, name, at):
    folder = MAKERS[name](tmp_path, classes=6, per_class=4)
    halves = load(name, folder if at == "folder" else tmp_path)
    assert (len(halves.train), len(halves.train.names), len(halves.test.names)) == (12, 3, 3)
    assert np.abs(colours(halves.train) - expected_colours([1, 2, 3])).max() < 12
    assert np.abs(colours(halves.test) - expected_colours([4, 5, 6])).max() < 12
    assert not set(halves.train.names) & set(halves.test.names)
    assert (halves.gallery is not None) == (DATA_SETS[name].protocol == "query-gallery")
    assert halves.description["split"] == ("order" if name in ("cub200", "cars196") else "listed")


def check_halves(halves, classes=8, per_class=6):
    assert len(halves.train) == classes // 2 * per_class
    assert np.abs(colours(halves.test) - expected_colours(range(classes // 2 + 1, classes + 1))).max() < 12


def test_cub200_goes_by_the_numbers_of_its_lists(tmp_path):
    """The classes as numbered, not as their folders sort; train_test_split.txt says nothing here."""
    folder = make_cub200(tmp_path, classes=8)
    lists = {name: folder / f"{name}.txt" for name in ("images", "image_class_labels", "train_test_split")}
    lists["train_test_split"].unlink()
    labels = [line.split() for line in lists["image_class_labels"].read_text().splitlines()]
    lists["image_class_labels"].write_text("".join(f"{image} {9 - int(label)}\n" for image, label in labels[::-1]))
    halves = load("cub200", folder)
    assert halves.train.names == ["008.Bird_8", "007.Bird_7", "006.Bird_6", "005.Bird_5"]
    assert np.abs(colours(halves.train) - expected_colours([8, 7, 6, 5])).max() < 12


def test_cub200_without_its_lists_goes_by_its_folders(tmp_path):
    folder = make_cub200(tmp_path, lists=False)
    (folder / "images" / "001.Bird_1" / "._Bird_1_0000.jpg").write_bytes(b"\0\5\x16\7")
    halves = load("cub200", tmp_path)
    check_halves(halves)
    assert halves.description["skipped"] == {"hidden or of a system": 1}


@pytest.mark.parametrize("variant", ["a", "b"])
def test_cars196_pools_what_classifiers_train_and_test_on(tmp_path, variant):
    make_cars196(tmp_path, variant)
    halves = load("cars196", tmp_path)
    check_halves(halves)
    assert halves.train.names == [f"Car {c}" for c in range(1, 5)]
    assert np.bincount(halves.train.labels).tolist() == [6] * 4


def move(source, target):
    target.parent.mkdir(parents=True, exist_ok=True)
    source.rename(target)


@pytest.mark.parametrize("devkit", ["", "devkit", "car_devkit/devkit"])
@pytest.mark.parametrize("nested", [False, True])
def test_cars196_devkits_of_other_archives(tmp_path, devkit, nested):
    folder = make_cars196(tmp_path, "b")
    (folder / "devkit" / "cars_meta.mat").unlink()
    move(folder / "devkit" / "cars_train_annos.mat", tmp_path / "train.mat")
    move(tmp_path / "train.mat", folder / devkit / "cars_train_annos.mat")
    move(folder / "cars_test_annos_withlabels.mat", folder / devkit / "cars_test_annos_withlabels.mat")
    if nested:
        for part in ("cars_train", "cars_test"):
            move(folder / part, tmp_path / "aside")
            move(tmp_path / "aside", folder / part / part)
    halves = load("cars196", folder)
    check_halves(halves)
    assert halves.train.names == ["1", "2", "3", "4"]


@pytest.mark.parametrize("name", ["Inshop_Clothes", "InShop_Clothes", "In-shop Clothes Retrieval Benchmark"])
@pytest.mark.parametrize("list_in", ["Eval", "Anno", ""])
@pytest.mark.parametrize("images_in", ["Img/img", "img", "Img/img_highres"])
def test_inshop_layouts(tmp_path, name, list_in, images_in):
    make_inshop(tmp_path, name=name, list_in=list_in, images_in=images_in)
    check_halves(load("inshop", tmp_path))


def test_inshop_queries_and_gallery_have_the_same_labels(tmp_path):
    make_inshop(tmp_path, classes=8, per_class=6)
    halves = load("inshop", tmp_path)
    assert halves.test.names == halves.gallery.names == [f"id_{c:08}" for c in range(5, 9)]
    assert np.bincount(halves.test.labels).tolist() == np.bincount(halves.gallery.labels).tolist() == [3] * 4
    assert np.abs(colours(halves.test) - colours(halves.gallery)).max() < 12
    queries, gallery = ({half.name(i) for i in range(len(half))} for half in (halves.test, halves.gallery))
    assert not queries & gallery
    assert str(halves) == "24 images of 4 seen and 12 query and 12 gallery images of 4 unseen classes"
    assert halves.description["gallery_images"] == 12


def test_a_gallery_may_have_classes_that_no_query_has(tmp_path):
    folder = make_inshop(tmp_path)
    partition = folder / "Eval" / "list_eval_partition.txt"
    lines = partition.read_text().splitlines(keepends=True)
    partition.write_text("".join(line for line in lines if not ("id_00000006" in line and "query" in line)))
    halves = load("inshop", tmp_path)
    assert halves.test.names == halves.gallery.names
    assert sorted(set(halves.test.labels.tolist())) == [0, 2, 3]
    assert np.bincount(halves.gallery.labels).tolist() == [3] * 4


def test_sop_is_halved_by_its_lists_and_ordered_by_number(tmp_path):
    make_sop(tmp_path, classes=23, per_class=2)
    halves = load("sop", tmp_path)
    assert halves.train.names == [str(c) for c in range(1, 13)]
    assert halves.test.names == [str(c) for c in range(13, 24)]


@pytest.mark.parametrize("name", MAKERS)
def test_a_wrong_count_says_what_was_found_and_expected(tmp_path, name):
    MAKERS[name](tmp_path)
    line = refused(name, tmp_path, any_count=False)
    expected = splits.told(DATA_SETS[name].counts)
    assert line.startswith(f"the data set {name} in {tmp_path} has {load(name, tmp_path)}; expected {expected}")
    assert line.endswith("go on with --any-count")


def test_the_expected_counts_are_those_of_the_files(tmp_path, monkeypatch):
    counts = {"train_images": 24, "train_classes": 4, "test_images": 12, "gallery_images": 12, "test_classes": 4}
    make_inshop(tmp_path)
    registered = DATA_SETS["inshop"]
    monkeypatch.setitem(DATA_SETS, "inshop", type(registered)("", counts=counts))
    assert len(load("inshop", tmp_path, any_count=False).test) == 12
    for part in counts:
        monkeypatch.setitem(DATA_SETS, "inshop", type(registered)("", counts={**counts, part: counts[part] + 1}))
        assert "--any-count" in refused("inshop", tmp_path, any_count=False)


LISTS = [
    ("cub200", make_cub200, "images.txt"),
    ("cub200", make_cub200, "image_class_labels.txt"),
    ("cub200", make_cub200, "images"),
    ("cars196", make_cars196, "cars_annos.mat"),
    ("cars196", make_cars196, "car_ims"),
    ("cars196", lambda root: make_cars196(root, "b"), "devkit/cars_train_annos.mat"),
    ("cars196", lambda root: make_cars196(root, "b"), "cars_test_annos_withlabels.mat"),
    ("cars196", lambda root: make_cars196(root, "b"), "cars_test"),
    ("sop", make_sop, "Ebay_train.txt"),
    ("sop", make_sop, "Ebay_test.txt"),
    ("inshop", make_inshop, "Eval/list_eval_partition.txt"),
    ("inshop", make_inshop, "Img"),
]


@pytest.mark.parametrize(("name", "make", "lost"), LISTS, ids=[f"{name}-{lost}" for name, _, lost in LISTS])
def test_a_missing_file_is_named_with_the_layouts_and_the_page(tmp_path, name, make, lost):
    folder = make(tmp_path)
    move(folder / lost, tmp_path / "elsewhere" / "aside")
    line = refused(name, folder)
    assert re.search(rf"{folder} lacks .*{lost}", line)
    page = {"cub200": "vision.caltech.edu", "cars196": "ai.stanford.edu", "sop": "cvgl.stanford.edu", "inshop": "mmlab"}
    assert page[name] in line
    assert "--data is the folder with these, or holds it as " in line


@pytest.mark.parametrize("name", MAKERS)
def test_a_folder_without_the_data_set(tmp_path, name):
    assert refused(name, tmp_path).startswith(f"{tmp_path} does not hold it: ")
    (tmp_path / "file").write_text("")
    assert refused(name, tmp_path / "file").startswith(f"{tmp_path}/file is no folder: ")
    assert "does not exist" in refused(name, tmp_path / "nowhere")
    with pytest.raises(UserError, match="--data is missing"):
        splits.load(name, None, 32)


@pytest.mark.parametrize("name", MAKERS)
def test_missing_and_damaged_images(tmp_path, name):
    """Named; on request counted and left out, in the training half as in the other."""
    folder = MAKERS[name](tmp_path)
    images = sorted(file for file in folder.rglob("*") if file.suffix.lower() == ".jpg")
    images[0].unlink()
    line = refused(name, folder)
    assert line.startswith(f"1 image is missing, for example {images[0]}: ")
    images[-1].unlink()
    assert refused(name, folder).startswith(f"2 images are missing, for example {images[0]}: ")
    images[0].write_bytes(images[1].read_bytes()[:200])
    images[-1].write_bytes(b"no image")
    halves = load(name, folder)
    everything = [part for part in (halves.train, halves.test, halves.gallery) if part is not None]
    for image in (images[0], images[-1]):
        place = [(part, i) for part in everything for i in range(len(part)) if part.stored(i) == image]
        ((part, i),) = place
        with pytest.raises(UserError, match=f"{image} cannot be read as an image"):
            part[i]
    halves = load(name, folder, skip_damaged=True)
    assert halves.description["skipped"] == {"damaged": 2}
    assert sorted(halves.description["damaged"]) == [str(images[0]), str(images[-1])]
    assert len(halves.train) + len(halves.test) + len(halves.gallery or ()) == 48 - 2


def test_which_classes_are_unseen_does_not_depend_on_damage(tmp_path):
    folder = make_cub200(tmp_path, classes=8)
    for file in (folder / "images" / "002.Bird_2").iterdir():
        file.write_bytes(b"no image")
    halves = load("cub200", folder, skip_damaged=True)
    assert halves.train.names == ["001.Bird_1", "003.Bird_3", "004.Bird_4"]
    assert sorted(set(halves.train.labels.tolist())) == [0, 1, 2]
    assert len(halves.test.names) == 4


def edit(make, file, change):
    def damage(root):
        path = make(root) / file
        path.write_text(change(path.read_text()))

    return damage


CUB_LABELS, SOP_TEST, INSHOP = "image_class_labels.txt", "Ebay_test.txt", "Eval/list_eval_partition.txt"
BROKEN = [
    ("cub200", edit(make_cub200, "images.txt", lambda text: text.replace("3 001", "3_001")), "line 3 is '3_001.Bird_1"),
    ("cub200", edit(make_cub200, "images.txt", lambda text: text.replace("\n3 ", "\n2 ")), "line 3 lists image 2 "),
    ("cub200", edit(make_cub200, CUB_LABELS, lambda text: text[:-5]), "is either not in it or not in images.txt"),
    ("cub200", edit(make_cub200, CUB_LABELS, lambda text: text.replace("3 1", "3 one")), "line 3 has .one. where"),
    ("sop", edit(make_sop, SOP_TEST, lambda text: text[10:]), "line 1 is .* expected the header 'image_id class_id"),
    ("sop", edit(make_sop, SOP_TEST, lambda text: text + "1 2 3"), "line 26 is '1 2 3', expected image_id"),
    ("sop", edit(make_sop, SOP_TEST, lambda text: text.replace(" 5 ", " 5- ")), "line 2 has '5-' where"),
    ("sop", edit(make_sop, SOP_TEST, lambda text: text.replace(" 5 ", " 4 ")), "class 4 is listed as train and as "),
    ("inshop", edit(make_inshop, INSHOP, lambda text: text[3:]), "line 2 is .* expected the header 'image_name"),
    ("inshop", edit(make_inshop, INSHOP, lambda text: text.replace(" gallery", " galery")), "part 'galery' is none of"),
    ("inshop", edit(make_inshop, INSHOP, lambda text: text.replace(" gallery", " query")), "but no gallery"),
    ("inshop", edit(make_inshop, INSHOP, lambda text: text.replace(" query", " gallery")), "a gallery, but no queries"),
    ("inshop", edit(make_inshop, INSHOP, lambda text: "48\nimage_name item_id evaluation_status\n"), "lists no images"),
]


@pytest.mark.parametrize(("name", "damage", "words"), BROKEN, ids=[f"{name}-{words}" for name, _, words in BROKEN])
def test_a_broken_list_is_named_with_its_line(tmp_path, name, damage, words):
    damage(tmp_path)
    line = refused(name, tmp_path)
    assert re.search(words, line)
    assert "cannot be read as a list of" in line


def test_annotations_that_are_no_annotations(tmp_path):
    folder = make_cars196(tmp_path)
    file = folder / "cars_annos.mat"
    lacking = "lacks the struct array annotations"
    for stored in ({"annotations": np.zeros((3, 3))}, {"other": np.zeros(3)}):
        savemat(file, stored)
        assert f"{file} cannot be read as annotations of Cars196 (it {lacking})" in refused("cars196", folder)
    path = {"relative_im_path": "car_ims/000001.jpg"}
    for record, words in (
        (path, "struct array annotations lacks the field class"),
        ({"relative_im_path": 3, "class": 1}, "it has a number where a name was expected"),
        ({**path, "class": "one"}, "it has an image whose class is no whole number"),
    ):
        write_annotations(file, [record, record])
        assert words in refused("cars196", folder)
    file.write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM" + bytes(400))
    assert "it is no MAT-file of level 5, which MATLAB saves with -v6 or -v7" in refused("cars196", folder)


def test_one_annotated_image_is_a_list_of_one(tmp_path):
    folder = make_cars196(tmp_path, "b")
    write_annotations(folder / "cars_test_annos_withlabels.mat", [{"class": 8, "fname": "00001.jpg"}])
    halves = load("cars196", folder)
    assert len(halves.train) + len(halves.test) == 24 + 1


def test_a_link_to_the_folder_will_do(tmp_path):
    real = make_sop(tmp_path / "disk")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "Stanford_Online_Products").symlink_to(real)
    check_halves(load("sop", tmp_path / "data"))


def test_duplicates_are_looked_for_in_the_gallery(tmp_path):
    folder = make_inshop(tmp_path)
    dresses = folder / "Img" / "img" / "WOMEN" / "Dresses"
    of_the_gallery = dresses / "id_00000008" / "06_1_front.jpg"
    shutil.copy(dresses / "id_00000001" / "01_1_front.jpg", of_the_gallery)
    halves = load("inshop", tmp_path)
    assert halves.description["duplicates"]["count"] == 1
    assert "1 of the 24 images of unseen classes" in halves.warning() and str(of_the_gallery) in halves.warning()
