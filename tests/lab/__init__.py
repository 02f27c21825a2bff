"""The mail server under attack on one machine: for the demo, the benchmarks and the tests."""
