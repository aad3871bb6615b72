"""`narae bench` and the frame of the benchmarks with peers."""

import json
import pathlib
import subprocess
import sys

import pytest

from narae import bench

BENCH = pathlib.Path(__file__).parents[1] / "bench"


def test_rows_are_printed_written_and_drawn(tmp_path, capsys, monkeypatch):
    def best_time(call):
        call()
        return 1e-3

    monkeypatch.setattr(bench, "best_time", best_time)
    rows = bench.run(1, ["shape", "reduce"], tmp_path / "rows.json", tmp_path / "bench.png")
    assert [row["case"] for row in rows] == [
        "transpose 2048x2048", "sum 4096x1024 axis 1", "sum 4096x1024 axis 0"
    ]  # fmt: skip
    assert rows[0]["rate"] == pytest.approx(2048 * 2048 * 8 / 1e-3)
    assert rows[0]["ratio_to_numpy"] == 1
    assert json.loads((tmp_path / "rows.json").read_text()) == rows
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")
    assert "transpose 2048x2048" in capsys.readouterr().out


def test_unknown_family():
    with pytest.raises(ValueError, match="expected families out of gemm, .*Received: {'gem'}"):
        bench.run(families=["gem"])


def test_script_with_a_peer(tmp_path):
    command = [
        sys.executable,
        str(BENCH / "bench_gemm.py"),
        "--peers",
        "numpy",
        "--only",
        "matmul 64",
    ]
    subprocess.run(
        [*command, "--seconds", "0.01", "--json", str(tmp_path / "gemm.json")], check=True
    )
    rows = json.loads((tmp_path / "gemm.json").read_text())["rows"]
    assert [row["pass"] for row in rows] == ["forward", "both"]
    assert rows[0]["ratio"]["numpy"] > 0
