/* Everything that a printed cell is built on; printer/file.py puts the cell behind it. */
#pragma once
#include "gemm.h"
#include "dots.h"
#include "barrier.h"
#include "outer.h"
#include "step_blocks.h"
#include "functions.h"
#include "rescale.h"
#include "squares.h"
