# pot_library(NAME SOURCES... [DEPS targets...]): a static library of ours.
function(pot_library name)
  cmake_parse_arguments(ARG "" "" "DEPS" ${ARGN})
  add_library(${name} STATIC ${ARG_UNPARSED_ARGUMENTS})
  target_link_libraries(${name} PUBLIC pot_options ${ARG_DEPS})
endfunction()

# Labels the test NAME "threaded" and lets the target threaded_tests build it
# if tests/threaded_tests.cmake lists it.
function(pot_label_threaded name)
  if(name IN_LIST POT_THREADED_TESTS)
    set_property(TEST ${name} APPEND PROPERTY LABELS threaded)
    add_dependencies(threaded_tests ${name})
  endif()
endfunction()

# pot_test(NAME SOURCES... [DEPS targets...]): a GoogleTest program, one
# ctest entry.
function(pot_test name)
  cmake_parse_arguments(ARG "" "" "DEPS" ${ARGN})
  add_executable(${name} ${ARG_UNPARSED_ARGUMENTS})
  target_link_libraries(${name} PRIVATE
    pot_options ${ARG_DEPS} GTest::gmock GTest::gtest_main)
  add_test(NAME ${name} COMMAND ${name})
  # For sanitizers on a busy machine; a release build needs seconds.
  # OpenMP's threads sleep instead of spinning: tests share the machine.
  set_tests_properties(${name} PROPERTIES TIMEOUT 900
                       ENVIRONMENT GOMP_SPINCOUNT=0)
  pot_label_threaded(${name})
endfunction()

# pot_fuzzer(NAME SOURCES... [DEPS targets...]): a libFuzzer program, part of
# the target pot_fuzzers.
if(POT_FUZZ)
  add_custom_target(pot_fuzzers)
endif()
function(pot_fuzzer name)
  if(NOT POT_FUZZ)
    return()
  endif()
  cmake_parse_arguments(ARG "" "" "DEPS" ${ARGN})
  add_executable(${name} ${ARG_UNPARSED_ARGUMENTS})
  target_link_libraries(${name} PRIVATE pot_options ${ARG_DEPS})
  target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  add_dependencies(pot_fuzzers ${name})
endfunction()
