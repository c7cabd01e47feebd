"""The figures of a report."""


def test_a_figure_shows_foreign_names_escaped_and_warns_of_no_letter(recwarn):
    """What a library says of a letter it cannot draw would bring the letter itself to the terminal."""
    from matplotlib.figure import Figure

    from twinscale.benchmarks.report.plots import svg

    def draw(width):
        figure = Figure((width, 2), layout="constrained")
        figure.subplots().set_title("a \x1b[31m name \u6b65")
        return figure

    drawn = "".join(svg("x", draw))
    assert "\\x1b[31m name" in drawn and "\x1b" not in drawn and "\u6b65" in drawn
    assert not [said for said in recwarn if "Glyph" in str(said.message)]
