"""What `app.pr_report` is made of: revisions are read, compared, judged, drawn and put into words."""
