// The floor of a gRPC server: one thread and one completion queue. It decodes each RankRequest as
// the .proto says, scores nothing, and answers with as many indices and scores as there are
// candidates. Says `listening on 127.0.0.1:PORT`, and serves until it is killed.

#include <grpcpp/grpcpp.h>

#include <cstdio>
#include <memory>

#include "ranker/v1/ranking.grpc.pb.h"

namespace {

using ranker::v1::RankingService;
using ranker::v1::RankRequest;
using ranker::v1::RankResponse;

// One `Rank` call: waits for its request, answers it, and is deleted when the answer has left.
class Call {
 public:
  Call(RankingService::AsyncService* service, grpc::ServerCompletionQueue* queue)
      : service_(service), queue_(queue), responder_(&context_) {
    service_->RequestRank(&context_, &request_, &responder_, queue_, queue_, this);
  }

  // Goes on after a completion; `ok` is false if the queue or the caller has gone.
  void Proceed(bool ok) {
    if (!ok || answered_) {
      delete this;
      return;
    }
    new Call(service_, queue_);  // waits for the next request
    const auto& matrix = request_.candidates();
    if (matrix.data().size() != size_t{4} * matrix.rows() * matrix.columns()) {
      answered_ = true;
      responder_.FinishWithError(grpc::Status(grpc::INVALID_ARGUMENT, "data"), this);
      return;
    }
    response_.set_request_id(request_.request_id());
    response_.mutable_indices()->Reserve(matrix.rows());
    response_.mutable_scores()->Reserve(matrix.rows());
    for (uint32_t i = 0; i < matrix.rows(); ++i) {
      response_.add_indices(i);
      response_.add_scores(1.0f);
    }
    answered_ = true;
    responder_.Finish(response_, grpc::Status::OK, this);
  }

 private:
  RankingService::AsyncService* service_;
  grpc::ServerCompletionQueue* queue_;
  grpc::ServerContext context_;
  RankRequest request_;
  RankResponse response_;
  grpc::ServerAsyncResponseWriter<RankResponse> responder_;
  bool answered_ = false;
};

constexpr int kWaitingCalls = 64;

}  // namespace

int main() {
  RankingService::AsyncService service;
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.SetMaxReceiveMessageSize(64 << 20);
  builder.RegisterService(&service);
  std::unique_ptr<grpc::ServerCompletionQueue> queue = builder.AddCompletionQueue();
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr) return 1;
  for (int i = 0; i < kWaitingCalls; ++i) new Call(&service, queue.get());
  std::printf("listening on 127.0.0.1:%d\n", port);
  std::fflush(stdout);
  void* tag = nullptr;
  bool ok = false;
  while (queue->Next(&tag, &ok)) static_cast<Call*>(tag)->Proceed(ok);
}
