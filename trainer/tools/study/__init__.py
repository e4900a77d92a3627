"""The study of what synthetic pictures give: the same classifier on different training sets, compared with care."""
