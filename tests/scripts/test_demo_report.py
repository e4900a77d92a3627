import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

import demo_report


def test_auc_per_kind_with_intervals(tmp_path, capsys):
    rows = ["key,source,group,label,score,prediction"]
    for i in range(20):
        rows.append(f"r{i},test/real/real_{i}.mp4,,0,{i / 40},0")  # 0.0 … 0.475
        rows.append(f"s{i},test/fake/spatial_{i}.mp4,,1,{0.6 + i / 100},1")  # all above
        rows.append(f"f{i},test/fake/flicker_{i}.mp4,,1,{i / 40},0")  # the very same
        rows.append(f"o{i},test/fake/order_{i}.mp4,,1,{0.6 if i % 2 else 0.0},0")  # half above
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "test_predictions.csv").write_text("\n".join(rows))
    demo_report.main([str(tmp_path)])
    line = capsys.readouterr().out.splitlines()[-1]
    assert "1.000 (1.000-1.000)" in line and "0.500 (0." in line and line.count("(") == 4
