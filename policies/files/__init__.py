"""Policy files: the shipped ones, what may stand in one, many read as one set."""
