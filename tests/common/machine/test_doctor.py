"""The doctor never fails: it says what is there, what is missing, and what to do."""


import pytest

from twinscale.common.machine import doctor


def test_the_report_holds_the_machine_and_what_each_framework_sees(quick, capsys):
    report = doctor.doctor()
    assert report["schema_version"] == 1 and report["cores"] >= 1 and report["memory_bytes"] > 2**20
    assert {f: a["devices"][0]["kind"] for f, a in report["devices"].items()} == {"tensorflow": "CPU", "jax": "CPU"}
    assert report["backends"] == {"keras": True, "keras-jax": True, "jax": True} and report["versions"]["numpy"]
    doctor.show(report)
    assert "d:0" in capsys.readouterr().out


def test_an_absent_package_is_named_with_its_use_and_its_fix(quick, absent):
    absent("tensorflow", "libtpu", "mlxtend", "tensorflow-tpu")
    report = doctor.doctor()
    missing = {item["package"]: item for item in report["missing"]}
    assert missing["tensorflow"]["for"] == "the keras backend"
    assert missing["tensorflow"]["fix"] == "pip install 'twinscale[cpu]'"
    assert "preflight" in missing["libtpu"]["for"] and missing["mlxtend"]["fix"] == "pip install 'twinscale'"
    assert report["backends"] == {"keras": False, "keras-jax": True, "jax": True}
    assert "tensorflow" not in report["devices"]


def test_a_libtpu_beside_the_packages_is_seen(quick, absent, monkeypatch, tmp_path):
    absent("libtpu")
    monkeypatch.delenv("TPU_LIBRARY_PATH", raising=False)
    assert "libtpu" not in doctor.doctor()["versions"]
    library = tmp_path / "libtpu" / "libtpu" / "libtpu.so"
    library.parent.mkdir(parents=True)
    library.touch()
    (tmp_path / "libtpu" / "libtpu-1.2.3.dist-info").mkdir()
    (tmp_path / "libtpu" / "libtpu-1.2.3.dist-info" / "METADATA").write_text("Name: libtpu\nVersion: 1.2.3\n")
    monkeypatch.setattr(doctor.sys, "prefix", str(tmp_path))
    report = doctor.doctor()
    assert report["versions"]["libtpu"] == "1.2.3" and "libtpu" not in [row["package"] for row in report["missing"]]


@pytest.mark.parametrize("program, words", [
    ("import time; time.sleep(60)", "no answer within"),
    ("import sys; sys.exit('libcudart.so: [bold]not found')", "libcudart.so: [bold]not found"),
    ("import os; os.abort()", "exit code -6"),
    ("print('no JSON')", "exit code 0"),
])
def test_a_framework_that_hangs_or_breaks_cannot_take_the_doctor_along(monkeypatch, capsys, program, words):
    monkeypatch.setattr(doctor, "ASK", {"jax": program, "tensorflow": "print('[]')"})
    monkeypatch.setattr(doctor, "PATIENCE", 1)
    report = doctor.doctor()
    assert words in report["devices"]["jax"]["error"]
    assert report["backends"] == {"keras": True, "keras-jax": False, "jax": False}
    doctor.show(report)
    assert words in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("said, why", [("AssertionError", "JAX_PLATFORMS=cuda"),
                                       ("RuntimeError: no GPU", "JAX_PLATFORMS=cuda: RuntimeError: no GPU")])
def test_a_platform_that_is_not_there_is_named_with_its_fix(monkeypatch, said, why):
    """For one that is known but not installed JAX raises an AssertionError without a word."""
    monkeypatch.setattr(doctor, "ASK", {"jax": f"import sys; sys.exit({said!r})"})
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    assert doctor._devices("jax") == {
        "error": f"JAX gives no devices ({why}): unset JAX_PLATFORMS, or set JAX_PLATFORMS=cpu"}
    monkeypatch.delenv("JAX_PLATFORMS")
    assert doctor._devices("jax") == {"error": said}


def test_asking_sets_the_keras_backend_and_quiets_tensorflow(monkeypatch):
    program = "import os, json; print(json.dumps([os.environ['KERAS_BACKEND'], os.environ['TF_CPP_MIN_LOG_LEVEL']]))"
    monkeypatch.setattr(doctor, "ASK", {"jax": program})
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert doctor._devices("jax")["devices"] == ["tensorflow", "3"]
