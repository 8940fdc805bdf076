"""One page that shows a run: what is shown, as plain data, and the HTML that draws it."""
