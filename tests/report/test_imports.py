import subprocess
import sys


def test_the_report_needs_neither_torch_nor_ray() -> None:
    code = (
        "import sys\n"
        "import distcel.report.document, distcel.report.results_page, distcel.report.page\n"
        "print([name for name in ('torch', 'ray', 'mlflow', 'optuna') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
