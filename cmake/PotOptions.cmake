# Every build option of the project, and the flags that all its targets share.
option(POT_BUILD_TESTS "Build tests, and with clang the fuzz targets" ON)
option(POT_ENGINE_ONLY
       "Build engine and its tests only, which need no RPC libraries" OFF)
option(POT_WERROR "Treat warnings as errors" OFF)
set(POT_SANITIZE "" CACHE STRING
    "Sanitizers for every target: empty, address,undefined or thread")
option(POT_FUZZ "Build libFuzzer targets (needs clang)" OFF)

if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

find_program(POT_CCACHE ccache)
if(POT_CCACHE)
  # The source tree is hashed relative to the build directory: build/release of
  # one clone shares its objects with that of another.
  set(CMAKE_CXX_COMPILER_LAUNCHER
      "${CMAKE_COMMAND}" -E env "CCACHE_BASEDIR=${PROJECT_SOURCE_DIR}"
      CCACHE_NOHASHDIR=1 "${POT_CCACHE}")
endif()

# An interface target instead of global flags, so that generated code is not
# held to our warnings.
add_library(pot_options INTERFACE)
target_include_directories(pot_options INTERFACE "${PROJECT_SOURCE_DIR}")
# No contraction: a*b+c must round twice on every CPU, or logits would differ
# between machines with and without FMA.
target_compile_options(pot_options INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wno-sign-compare -ffp-contract=off
  $<$<CXX_COMPILER_ID:Clang>:-Wthread-safety>
  $<$<BOOL:${POT_WERROR}>:-Werror>)

if(POT_SANITIZE)
  # Lines are all that a report needs: the rest of -g takes a sixth of the
  # compiler's time.
  add_compile_options(-fsanitize=${POT_SANITIZE} -fno-omit-frame-pointer -g1)
  add_link_options(-fsanitize=${POT_SANITIZE})
  if(POT_SANITIZE MATCHES "undefined")
    # vptr looks at every call of a method, for up to a quarter of the
    # compiler's time; AddressSanitizer sees objects that are gone.
    add_compile_options(-fno-sanitize-recover=undefined -fno-sanitize=vptr)
  endif()
endif()
