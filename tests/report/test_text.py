"""Reports as Markdown, JSON and frames."""

import json
import re
import sys
from dataclasses import replace

import pandas as pd
import pytest

import siamlearn as sl
from siamlearn.evaluation import frame
from siamlearn.evaluation.tables import measured
from siamlearn.report.text import escaped


def cells(line):
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_markdown_has_a_line_for_each_number_and_a_column_for_each_system(run):
    lines = sl.report.markdown(run).splitlines()
    table = [cells(line) for line in lines if line.startswith("|")]
    assert len({len(row) for row in table}) == 1
    assert len(table[0]) == 1 + 1 + len(run.baselines)
    assert len(table) == 2 + len(measured(run))
    assert table[2] == ["AUC", *(escaped(str(s.auc)) for s in (run, *run.baselines))]
    assert lines[0].startswith("**net &lt;b&gt;one&lt;/b&gt; does not beat ")


def test_a_name_cannot_break_the_table(run):
    bad = replace(run, name="a|b\n# c <img src=x> [d](http://e)")
    text = sl.report.markdown(bad)
    assert "<img" not in text
    assert "\n# c" not in text
    assert "[d](http" not in text
    table = [cells(line) for line in text.splitlines() if line.startswith("|")]
    assert len({len(row) for row in table}) == 1


def test_escaped_by_hand():
    assert escaped("a_b*c\n| <d> & `e`") == r"a\_b\*c \| &lt;d&gt; &amp; \`e\`"


def test_json_holds_every_number_of_the_table(run):
    told = json.loads(json.dumps(run.to_dict(), allow_nan=False))
    assert told["auc"]["value"] == float(run.auc)
    assert told["protocol"]["digest"] == run.protocol.digest
    assert [each["name"] for each in told["baselines"]] == [b.name for b in run.baselines]


def test_a_frame_has_a_row_for_each_system_and_the_ends_of_every_interval(run):
    table = run.to_frame()
    assert table.equals(frame(run))
    assert list(table.index) == [run.name, *(each.name for each in run.baselines)]
    assert table.loc[run.name, "auc"] == float(run.auc)
    assert table.loc[run.name, "auc_high"] == run.auc.high
    assert table.loc[run.name, "fnmr_at_0.1"] == float(run.fnmr_at[0.1])
    assert table.loc[run.name, "cmc_5_low"] == run.cmc[4].low
    assert table["digest"].unique().tolist() == [run.protocol.digest]


def test_what_cannot_be_told_is_nan_in_a_frame(run):
    unknown = replace(run, fnmr_at={1e-6: None}, baselines=())
    row = frame(unknown).iloc[0]
    assert row[["fnmr_at_1e-06", "fnmr_at_1e-06_low"]].isna().all()


def test_frames_of_two_runs_stand_below_each_other(run, other_run):
    both = pd.concat([frame(run), frame(other_run)])
    assert len(both) == 2 + len(run.baselines)
    assert both["auc"].notna().all()


def test_without_pandas_it_says_what_to_install(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "siamlearn\[frames\]"'):
        frame(run)


def test_a_frame_has_the_rates_of_each_operating_point_and_how_far_baselines_are_below(run):
    table = run.to_frame()
    [seen] = run.points
    row = table.loc[run.name]
    assert row["FMR 5 % threshold"] == seen.point.threshold
    assert (row["FMR 5 % fmr"], row["FMR 5 % fnmr_high"]) == (float(seen.fmr), seen.fnmr.high)
    assert (row["FMR 5 % cllr_low"], row["FMR 5 % least_cllr"]) == (seen.cllr.low, seen.least_cllr)
    assert table.loc["pixels"].isna()["FMR 5 % fmr"]
    assert row.isna()["difference AUC"]
    for each in run.differences:
        told = table.loc[each.second]
        assert told[f"difference {each.what}"] == float(each.value)
        assert told[f"difference {each.what}_low"] == each.value.low
        assert told[f"difference {each.what} p"] == each.p
