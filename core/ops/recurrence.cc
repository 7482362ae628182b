// Linear attention (ops.h). The forward pass is one walk over the chains of states, which keeps
// those that enter the chunks for backward: walking again would be a seventh of forward and
// backward.
#include "core/ops/recurrence.h"

#include <memory>
#include <vector>

#include "core/autograd/node.h"
#include "core/ops/ops.h"
#include "core/ops/recurrence_call.h"
#include "core/ops/recurrence_checks.h"

namespace trireme {

RecurrenceOutputs LinearRecurrence(const RecurrenceInputs& inputs, absl::Span<const TokenRun> runs,
                                   const Tensor& initial_state) {
  CheckRecurrence(inputs, runs, initial_state);
  const auto call = std::make_shared<const RecurrenceCall>(inputs, runs);
  const Tensor initial = initial_state.defined() ? initial_state.Contiguous().Detach() : Tensor();
  RecurrenceChain chain;
  const bool keeps = NeedsGrad({inputs.q, inputs.k, inputs.v, inputs.log_decay, inputs.beta,
                                inputs.a, inputs.b, initial_state});
  const RecurrenceOutputs result = call->Forward(initial, keeps ? &chain : nullptr);
  const bool wants_dlog_decay = inputs.log_decay.defined() && inputs.log_decay.requires_grad();
  const std::vector<Tensor> outputs =
      Record("linear_recurrence",
             {inputs.q, inputs.k, inputs.v, inputs.log_decay, inputs.beta, inputs.a, inputs.b,
              initial_state},
             {result.out, result.final_state}, [=](absl::Span<const Tensor> grads) -> Grads {
               return call->Backward(chain, grads[0], grads[1], wants_dlog_decay,
                                     /*wants_dinitial=*/initial.defined());
             });
  return {outputs[0], outputs[1]};
}

}  // namespace trireme
