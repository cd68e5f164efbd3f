"""What records say together: roles, contrasts with intervals, tables; what a cell reaches in expectation."""

from pathlib import Path

import numpy as np
import pytest

from behaviorlm.baselines.frequency import fit_per_user_frequency
from behaviorlm.baselines.timelines import TimelineArrays
from behaviorlm_lab.study.cells import Cell
from behaviorlm_lab.study.contrasts import CONTRASTS, contrast_table, found, holm
from behaviorlm_lab.study.curve import curve
from behaviorlm_lab.study.intervals import estimate, mean
from behaviorlm_lab.study.measuring import RESAMPLES, Truth
from behaviorlm_lab.study.order_free import by_user_and_clock
from behaviorlm_lab.study.provenance import changed_since, stage_versions
from behaviorlm_lab.study.records import write_record
from behaviorlm_lab.study.roles import Candidate, roles
from behaviorlm_lab.study.tables import main as tables_main
from behaviorlm_lab.study.tables import study_tables
from behaviorlm_lab.truth.frontier import expected
from tests.platform.lab.study.made_records import made_record


def truth(seed: int = 0) -> Truth:
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet([3.0, 3.0, 0.5, 0.5, 0.01], 300)
    return Truth(probabilities, random.integers(0, 20, 300), np.array([True, True, False, False, False]), 7)


def test_what_is_expected_is_what_the_frontier_says_and_resamples_are_of_whole_users() -> None:
    of, choices = truth(), np.random.default_rng(1).integers(0, 5, 300)
    endpoint, resamples = of.spread(choices)
    known = expected(choices, of.probabilities, of.is_anchor)
    assert endpoint.anchor == pytest.approx(known["anchor_accuracy"])
    assert endpoint.tail == pytest.approx(known["tail_macro_recall"])
    assert of.probabilities[:, 4].sum() < 10, "the last behavior does not count"
    drawn = np.random.default_rng(7).integers(0, 20, (RESAMPLES, 20))
    rows = np.concatenate([np.flatnonzero(of.users == user) for user in drawn[3]])
    p, chosen = of.probabilities[rows], choices[rows]
    hit = p[np.arange(len(rows)), chosen]
    anchor = hit[chosen < 2].sum() / p[:, :2].sum()
    tail = np.mean([hit[chosen == behavior].sum() / p[:, behavior].sum() for behavior in (2, 3)])
    assert resamples[3] == pytest.approx((anchor + tail) / 2)
    assert of.best.both >= endpoint.both


def test_roles_are_taken_by_what_validation_prefers() -> None:
    def of(predictor: str, **objectives: float) -> list[Candidate]:
        names = [f"{predictor}+{rule}" if rule != "plain" else predictor for rule in objectives]
        return [
            Candidate(name, predictor, rule, objectives) for name, rule in zip(names, objectives, strict=True)
        ]

    candidates = [
        *of("at_once_rate_100", plain=0.5, adjusted=0.30),
        *of("at_once_rate_300", plain=0.1, adjusted=0.31),
        *of("a_then_b_rate_100", plain=0.2, adjusted=0.2, fitted=0.6),
        *of("a_then_b_rate_100+counts", plain=0.7, adjusted=0.2),
        *of("counts", plain=0.3),
        *of("bigram", plain=0.8),
        *of("sasrec", plain=0.9, adjusted=0.95),
    ]
    assert roles(candidates, ["at_once", "a_then_b"]) == {
        "one stage, adjusted": "at_once_rate_300+adjusted",
        "A+B, adjusted": "a_then_b_rate_100+adjusted",
        "recommended": "a_then_b_rate_100+counts",
        "best single model": "a_then_b_rate_100+fitted",
        "best counting": "bigram",
    }


def test_a_contrast_is_of_seeds_and_users_and_needs_three_seeds_for_a_p() -> None:
    ahead = [{"A+B, adjusted": 0.3 + 0.01 * seed} for seed in range(1, 5)]
    records = [made_record(Cell("3", 1.0, seed), both) for seed, both in enumerate(ahead)]
    of = found(records, CONTRASTS[0])
    assert of is not None and of.values == pytest.approx([0.01, 0.02, 0.03, 0.04])
    assert 0.01 <= of.low < 0.025 < of.high <= 0.04 and of.p == pytest.approx(2 / 10_001)
    few = found(records[:2], CONTRASTS[0])
    assert few is not None and few.p is None
    level = found([made_record(Cell("3", 1.0, seed)) for seed in range(4)], CONTRASTS[0])
    assert level is not None and level.p == 1.0 and level.low == level.high == 0.0
    del records[0]["roles"]["A+B, adjusted"]
    assert found(records, CONTRASTS[0]) is None


def test_holm_multiplies_the_smallest_by_all_and_never_falls() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]


def test_the_family_has_holm_s_p_only_when_it_is_whole_and_of_the_shipped_base() -> None:
    three, half = (
        [[made_record(Cell(k, knowledge, seed)) for seed in range(3)] for k in ("3", "10", "all")]
        for knowledge in (1.0, 0.5)
    )
    whole, part = contrast_table(three), contrast_table(three[:1])
    assert len(whole) == 2 + 12 and len(part) == 2 + 4
    assert all(row.endswith("| 1.0000 | 1.0000 |") for row in whole[2:10])
    others = contrast_table(half)[2:]  # the declared family is of the shipped base
    assert all(row.endswith("| 1.0000 | – |") for row in [*whole[10:], *part[2:], *others])


def test_tables_show_each_predictor_under_each_rule_and_are_written_beside_the_records(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = [Cell("3", 1.0, seed) for seed in range(3)]
    for cell in cells:
        write_record(tmp_path, cell, made_record(cell))
    assert tables_main([str(tmp_path), "--write"]) == 0
    written = (tmp_path / "tables.md").read_text()
    assert capsys.readouterr().out == written
    row = "| a_then_b | 0.340 | 0.100 | 0.360 | 0.100 | 0.360 | 0.360 | 0.360 | 0.360 | +0.010 [+0.010, +0.010] |"
    assert row in written and "| mixture | 0.370 |" in written and "| counts | 0.330 |" in written
    assert (tmp_path / "curve.svg").read_text().startswith("<svg")
    assert len(study_tables([made_record(cells[0])])) > 10 and curve([made_record(cells[0])])
    with pytest.raises(SystemExit):
        tables_main([str(tmp_path / "nowhere")])


def test_fewer_than_three_seeds_have_no_interval() -> None:
    assert estimate([0.0125], sign=True) == "+0.013"
    assert estimate([0.02, 0.04]) == "0.020, 0.040"
    assert estimate([0.02, None, 0.04, 0.03]) == "0.030 (3 of 4 seeds)"
    assert estimate([None, None]) == "–"
    assert mean([0.02, None, 0.04], digits=2) == "0.03 (2 of 3 seeds)"


def test_counting_by_user_and_clock_is_what_plain_counting_says() -> None:
    random = np.random.default_rng(3)
    users, events, behaviors = 12, 20, 4
    start = np.repeat(np.arange(users) * events, events)
    behavior = random.integers(0, behaviors, users * events).astype(np.int32)
    context = random.integers(0, 3, users * events).astype(np.int32)
    split = np.tile(np.repeat([0, 1, 2], [12, 4, 4]), users).astype(np.int8)
    log = TimelineArrays(behavior, start, np.ones(len(start), bool), split, context, behaviors, 3)
    said = by_user_and_clock(log, log.target_rows(1))
    strength, smoothing = said.args
    by_user = fit_per_user_frequency(log)
    trained = [row for row in range(len(start)) if split[row] == 0]
    row = int(log.target_rows(2)[5])
    past = [behavior[other] for other in range(start[row], row)]
    there = [behavior[other] for other in trained if context[other] == context[row]]
    prior, concentration = by_user.prior, by_user.concentration
    for one in range(behaviors):
        own = (past.count(one) + concentration * prior[one]) / (len(past) + concentration)
        clock = (there.count(one) + smoothing * prior[one]) / (len(there) + smoothing)
        known = np.log(own) + strength * np.log(clock / prior[one])
        assert said(np.array([row]))[0, one] == pytest.approx(known, abs=1e-5)


def test_tables_over_records_of_older_code_say_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    today = stage_versions()
    assert changed_since([{"stages": today}, {}]) == []
    older = today | {"score": today["score"] - 1, "gone": 4}
    told = ["gone 4, today none", f"score {today['score'] - 1}, today {today['score']}"]
    assert changed_since([{"stages": today}, {"stages": older}]) == told
    record = made_record(Cell("3", 1.0, 3))
    for stages, note in ((today, ""), (older, f"note: made with older code: {'; '.join(told)}\n")):
        write_record(tmp_path, Cell("3", 1.0, 3), record | {"made": record["made"] | {"stages": stages}})
        assert tables_main([str(tmp_path)]) == 0
        assert capsys.readouterr().err == note
