//! Says that the other tests were left out, where no interpreter could be linked.

#[test]
#[cfg(not(exuvia_libpython))]
#[ignore = "no shared libpython: EXUVIA_EMBED_PYTHON=/path/to/python names an interpreter that has one"]
fn the_tests_with_an_interpreter() {}
