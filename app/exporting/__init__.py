"""What `app.export` is made of: a model becomes a graph, is written in a format, described and checked."""
