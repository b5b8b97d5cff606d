"""Makes the screenshots of the README from a study: needs Chromium.

python docs/images/make.py STUDY [--db URL] [--out FOLDER]
"""

import argparse
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path

import optuna

from autoprune.report.dashboard import make_dashboard
from autoprune.report.html import write_report
from autoprune.report.publish import publish
from autoprune.store import Store

FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run",
         "--hide-scrollbars", "--virtual-time-budget=25000")  # fmt: skip


def shoot(url: str, path: Path, size: str, *flags: str) -> None:
    """Save a picture of a page; size is "width,height" in pixels."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome") or "chromium"
    command = [chromium, *FLAGS, f"--window-size={size}", *flags, f"--screenshot={path}", url]
    subprocess.run(command, check=True, capture_output=True, timeout=180)


def main() -> None:
    """Read the command line and make every picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study")
    parser.add_argument("--db")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with Store.open(options.db) as store, tempfile.TemporaryDirectory() as folder:
        record = store.find_study(options.study)
        publish(store, record.name)
        identity = optuna.load_study(study_name=record.name, storage=store.storage)._study_id
        best = ((record.result or {}).get("best") or {}).get("trial", 0)
        server = make_dashboard(store, port=0)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = f"http://127.0.0.1:{server.server_port}/dashboard/studies/{identity}"
        shoot(page, options.out / "dashboard.png", "1400,2200")
        shoot(f"{page}/note", options.out / "dashboard-note.png", "1100,800")
        shoot(f"{page}/trials?numbers={best}", options.out / "dashboard-trial.png", "1400,1100")
        server.shutdown()
        report = write_report(store, record.name, Path(folder) / "report.html")
        shoot(report.as_uri(), options.out / "report.png", "1100,1400")
        # Chromium's windows are never narrower than 500 pixels: a frame is.
        frame = Path(folder) / "phone.html"
        frame.write_text(
            f'<body style="margin:0"><iframe src="{report.name}" width="390" height="1400" frameborder="0">'
        )
        shoot(frame.as_uri(), options.out / "report-phone-dark.png", "500,1400", "--force-dark-mode")


if __name__ == "__main__":
    main()
