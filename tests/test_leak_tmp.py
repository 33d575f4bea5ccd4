import threading, subprocess, socket, time, pytest
K=[]
def test_thread():
    t=threading.Thread(target=time.sleep,args=(8,)); t.start(); K.append(t)
def test_child():
    K.append(subprocess.Popen(["sleep","8"]))
def test_sock():
    K.append(socket.socket())
def test_zmq():
    import zmq
    c=zmq.Context(); s=c.socket(zmq.PUB); K.append((c,s))
def test_ok(): pass
