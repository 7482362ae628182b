// Everything a program that trains its own model includes.
#pragma once

#include "core/autograd/backward.h"
#include "core/base/status.h"
#include "core/batch.h"
#include "core/module/gradient_buffers.h"
#include "core/module/model.h"
#include "core/module/scope.h"
#include "core/ops/devices.h"
#include "core/ops/ops.h"
#include "core/tensor/tensor.h"
#include "optim/clip.h"
#include "optim/optimizer.h"
#include "optim/parameter_update.h"
#include "parallel/comm/communicator.h"
#include "parallel/comm/local.h"
#include "parallel/pipeline/executor.h"
#include "parallel/sync/all_reduce_exchange.h"
