// Moved.
#include "server/serving/field_errors.h"  // IWYU pragma: export
