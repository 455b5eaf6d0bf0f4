-- Written by `aijobs compose`, and yours to change: it does not overwrite what you changed.
-- digest sha256:c1b04882dee233abcc2526886d41a2af4ee1a76849965735ebf1887d21897d73

CREATE EXTENSION IF NOT EXISTS vector;
