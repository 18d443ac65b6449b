"""The loop: configuration, event log, executors, controller, report and command line."""
