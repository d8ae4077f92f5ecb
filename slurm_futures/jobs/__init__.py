"""From waiting calls to settled futures: submit, watch, judge, settle."""
