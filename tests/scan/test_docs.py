"""docs/scan-orders.md shows every curve, plan and picture there is, and no other."""

import importlib.util
import re
from pathlib import Path

from ssmvid.scan import CURVES, PATTERNS, ScanOrder
from ssmvid.scan.naming import split_number

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "scan-orders.md").read_text()


def script():
    spec = importlib.util.spec_from_file_location("draw_scan_orders", DOCS / "draw_scan_orders.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_picture_is_drawn_by_the_script_and_on_the_page():
    names = script().names()
    assert sorted(path.stem for path in (DOCS / "scan-orders").iterdir()) == sorted(names)
    assert re.findall(r"\(scan-orders/(.*?)\.png\)", PAGE) == re.findall(r"!\[(.*?)\]", PAGE)
    assert sorted(re.findall(r"!\[(.*?)\]", PAGE)) == sorted(names)
    assert {split_number(ScanOrder.parse(name).curve)[0] for name in names} == {"", *CURVES}


def test_rows_say_affine_table_2d_and_3d_as_the_code_has_it():
    rows = re.findall(r"^\| `(\S+?)`(?:, any `\w+N`)? (affine|table|2-D|3-D)<br>", PAGE, flags=re.MULTILINE)
    assert len(rows) == len(script().names())
    for name, kind in rows:
        order = ScanOrder.parse(name)
        if order.curve:
            assert kind == f"{CURVES[split_number(order.curve)[0]].axes}-D", name
        else:
            assert kind == ("table" if order.flip else "affine"), name


def test_pictures_stay_small():
    assert sum(path.stat().st_size for path in (DOCS / "scan-orders").iterdir()) < 1_000_000


def test_every_plan_is_on_the_page_and_marked_where_it_is_a_config():
    plans = dict(re.findall(r"^\| `(\w+)`( \*)? \|", PAGE, flags=re.MULTILINE))
    configs = {path.stem for path in (DOCS.parent / "hydra_configs" / "scan").glob("*.yaml")}
    assert plans.keys() == PATTERNS.keys()
    assert {name for name, star in plans.items() if star} == configs


def test_the_script_draws(tmp_path):
    module = script()
    module.save(module.draw("thw+hilbert"), tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000
