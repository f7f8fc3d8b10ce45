# Debian 12's packages as imported targets; deploy/install-deps installs them.
find_package(Threads REQUIRED)
find_package(OpenSSL REQUIRED)
find_package(absl CONFIG REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(PCRE2 REQUIRED IMPORTED_TARGET libpcre2-8)
if(NOT POT_ENGINE_ONLY)
  find_package(Protobuf REQUIRED)
  find_package(gRPC CONFIG REQUIRED)
  find_package(spdlog CONFIG REQUIRED)
  find_package(prometheus-cpp CONFIG REQUIRED)
  find_package(SQLite3 REQUIRED)
  find_package(CURL REQUIRED)
  find_program(POT_GRPC_CPP_PLUGIN grpc_cpp_plugin REQUIRED)
endif()

# The trainer's threads, which are oneDNN's. Without them it runs on one: with
# clang, whose OpenMP is another runtime than oneDNN's, and under
# ThreadSanitizer, which does not see libgomp's barriers.
add_library(pot_openmp INTERFACE)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND NOT POT_SANITIZE MATCHES "thread")
  find_package(OpenMP REQUIRED COMPONENTS CXX)
  target_link_libraries(pot_openmp INTERFACE OpenMP::OpenMP_CXX)
else()
  target_compile_options(pot_openmp INTERFACE -Wno-unknown-pragmas)
endif()

# Debian's dnnl-config.cmake asks for OpenCL, which the CPU library does not
# use.
find_path(POT_DNNL_INCLUDE oneapi/dnnl/dnnl.hpp REQUIRED)
find_library(POT_DNNL_LIBRARY dnnl REQUIRED)
add_library(pot_dnnl INTERFACE)
target_include_directories(pot_dnnl SYSTEM INTERFACE "${POT_DNNL_INCLUDE}")
target_link_libraries(pot_dnnl INTERFACE "${POT_DNNL_LIBRARY}")

if(POT_BUILD_TESTS)
  find_package(GTest CONFIG REQUIRED)
  find_package(benchmark CONFIG REQUIRED)
endif()
