# Debian's cross compiler for AArch64, and qemu for the tests. The libraries
# come from a sysroot of arm64 packages, which tests/cross/make-sysroot makes.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_LIBRARY_ARCHITECTURE aarch64-linux-gnu)

set(POT_SYSROOT "${CMAKE_CURRENT_LIST_DIR}/../../build/aarch64-sysroot"
    CACHE PATH "Root of the target's headers and libraries")
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES POT_SYSROOT)
file(REAL_PATH "${POT_SYSROOT}" CMAKE_SYSROOT)
if(NOT EXISTS "${CMAKE_SYSROOT}/packages")
  message(FATAL_ERROR "no sysroot in ${CMAKE_SYSROOT}; make it by "
                      "tests/cross/make-sysroot ${CMAKE_SYSROOT}")
endif()

set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
# The linker itself knows only its own root's multiarch folders.
set(CMAKE_EXE_LINKER_FLAGS_INIT
    "-Wl,-rpath-link,${CMAKE_SYSROOT}/usr/lib/aarch64-linux-gnu")

set(ENV{PKG_CONFIG_SYSROOT_DIR} "${CMAKE_SYSROOT}")
set(ENV{PKG_CONFIG_LIBDIR}
    "${CMAKE_SYSROOT}/usr/lib/aarch64-linux-gnu/pkgconfig")

find_program(POT_QEMU_AARCH64 qemu-aarch64-static REQUIRED)
# An Armv8.2 core with the dot-product extension.
set(CMAKE_CROSSCOMPILING_EMULATOR
    "${POT_QEMU_AARCH64};-cpu;cortex-a76;-L;${CMAKE_SYSROOT}")

set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
