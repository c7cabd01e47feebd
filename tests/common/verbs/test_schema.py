"""`twinscale schema`."""

import json

from twinscale.common import cli


def test_schema_of_a_result_is_printed_by_its_name_and_of_no_other(capsys):
    assert cli.main(["schema", "verdict"]) == 0
    assert {"agrees", "rungs", "sentence"} <= json.loads(capsys.readouterr().out)["properties"].keys()
    assert cli.main(["schema", "verdit"]) == 2
    assert "schema='verdit'" in (said := capsys.readouterr().err) and "preflight" in said
