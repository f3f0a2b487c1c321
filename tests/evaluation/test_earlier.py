"""Nothing that another config or other weights gave is lost."""

import json

import pytest

from diffad_jax.evaluation import earlier

OF = {"bottle": "a", "pill": "b"}


def write(folder, text, config, weights):
    (folder / "bottle").mkdir(exist_ok=True)
    for name in ("table.md", "bottle/report.html"):
        (folder / name).write_text(text)
    found = {category: {"image_auroc": 1.0, "weights": w} for category, w in weights.items()}
    (folder / "metrics.json").write_text(json.dumps({"categories": found, "config": config}))


def keep(folder, config, weights):
    earlier.keep(folder / "metrics.json", ("table.md", "*/report.html"), config, weights)


@pytest.mark.parametrize(
    ("config", "weights", "kept"),
    [
        ({"seed": 1}, OF, False),
        ({"seed": 1}, {"pill": "b"}, False),
        ({"seed": 2}, OF, True),
        ({"seed": 1}, {"bottle": "c"}, True),
        ({"seed": 1}, {"nut": "d"}, True),
    ],
)
def test_results_of_another_config_or_of_other_weights_are_kept(
    tmp_path, capsys, config, weights, kept
):
    for text in ("first", "second"):
        write(tmp_path, text, {"seed": 1}, OF)
        keep(tmp_path, config, weights)
        assert (tmp_path / "metrics.json").exists() != kept
        said = capsys.readouterr().err
        assert ("metrics.json holds an earlier result, of another config" in said) == kept
    found = {p.relative_to(tmp_path).as_posix(): p.read_text() for p in tmp_path.rglob("*_*.*")}
    assert len(found) == 6 * kept
    for number, text in ((1, "first"), (2, "second")) if kept else ():
        assert found[f"table_{number}.md"] == found[f"bottle/report_{number}.html"] == text
        assert json.loads(found[f"metrics_{number}.json"])["config"] == {"seed": 1}
    assert (tmp_path / "table.md").read_text() == "second"


def test_it_is_done_once_a_run_and_a_damaged_record_is_kept_too(tmp_path):
    write(tmp_path, "first", {"seed": 1}, OF)
    for category in OF:
        keep(tmp_path, {"seed": 2}, {category: OF[category]})
    (tmp_path / "metrics.json").write_text("{")
    keep(tmp_path, {"seed": 1}, OF)
    assert sorted(p.name for p in tmp_path.glob("metrics*")) == ["metrics_1.json", "metrics_2.json"]
