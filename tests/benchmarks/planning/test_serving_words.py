"""A plan of what is served, in words."""

from twinscale.benchmarks.planning.serving_words import sentence, show, span

ROW = {"bits": 4.0, "sparsity": 0.5, "distilled": True, "parameters": 2e9, "tokens": 4e10, "loss": 2.34567,
       "interval": [2.3, 2.4], "loss_of_a_run": [2.2, 2.5], "memory": 1.25e9, "flops_per_token": 2e9, "worth": 1e9,
       "limited_by": "memory", "best_of_resamples": 0.83}


def test_the_best_is_a_sentence_with_its_interval_where_there_is_one(capsys):
    result = {"rows": [ROW] * 20, "level": 0.9, "resamples": 4000, "rests_on": ["size by x"], "warnings": ["far"]}
    assert sentence(result) == (
        "Serve 2B parameters of 4 bits, 0.5 of them 0, trained on 40B tokens, taught by the teacher: loss 2.346 nats a "
        "token (2.3 to 2.4, 90% of the law), the best in 83% of 4,000 resamples; 1.25 GB and 2e+09 FLOPs a token.")
    assert "no interval" in sentence(result | {"rows": [ROW | {"interval": None}]}) and span(None) == "–"
    show(result | {"sentence": "Serve it."})
    said = capsys.readouterr().out
    assert "The best 12 of 20" in said and "- size by x." in said and "Beware: far." in said and "Serve it." in said
