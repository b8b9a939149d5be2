package main
import ("testing";"time";"fmt";"github.com/nats-io/nats.go";"tollbook/consumers";"tollbook/domain";natsjs "github.com/nats-io/nats.go/jetstream";"context")
func TestZZ(t *testing.T){
 for round:=range 12 {
 dir:=t.TempDir()
 s,err:=consumers.StartServer(consumers.ServerConfig{Dir:dir,Listen:"127.0.0.1:0",SyncInterval:time.Minute})
 if err!=nil {t.Fatal(err)}
 nc,_:=nats.Connect(s.ClientURL()); js,_:=natsjs.New(nc)
 if err:=consumers.EnsureStream(context.Background(),js);err!=nil{t.Fatal(err)}
 for i:=range 3000 { e:=someCall("contoso",fmt.Sprint(i),"u",60); js.PublishAsync(subjectOf(&e), ndjson([]domain.Event{e})) }
 <-js.PublishAsyncComplete()
 nc.Close(); s.Shutdown(); s.WaitForShutdown()
 r:=startRig(t,dir)
 T:=time.Now(); r.drained(); t.Log(round,"drained",time.Since(T), r.intake("contoso")); r.stop()
 }
}
