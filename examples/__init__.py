"""What the project shows: the flights demo, a training job, and the files of a new project."""
