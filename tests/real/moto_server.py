"""moto, an emulator of AWS, with what it leaves out of ECS.

`moto_server.py server` prints its port and serves until it is ended. Beside AWS's own calls it takes
`/meshless/task?ip=IP&port=PORT`, which makes one task of the service `web` in the cluster `prod` and one instance of
`web` in Cloud Map's namespace `prod.local`, and `/meshless/stop`, which begins to stop that task.

Filled in: the network interface of a container, that a task runs and of which service it is, and that a list of a
service's tasks has them. Everything else is moto's.
"""

import io
import json
import sys
from urllib.parse import parse_qs

import boto3
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

REGION = "eu-west-1"
TASK = {"ip": None, "desired": "RUNNING"}


def client(service):
    return boto3.client(service, endpoint_url=URL, region_name=REGION, aws_access_key_id="a", aws_secret_access_key="b")


def make_task(ip, port):
    """Makes the task and the instance by AWS's own calls."""
    TASK.update(ip=ip, desired="RUNNING")
    ecs, ec2, cloudmap = client("ecs"), client("ec2"), client("servicediscovery")
    ecs.create_cluster(clusterName="prod")
    ecs.register_task_definition(
        family="web",
        networkMode="awsvpc",
        requiresCompatibilities=["FARGATE"],
        cpu="256",
        memory="512",
        containerDefinitions=[
            {
                "name": "app",
                "image": "app",
                "cpu": 128,
                "memory": 128,
                "portMappings": [{"name": "http", "containerPort": port, "protocol": "tcp"}],
            }
        ],
    )
    subnet = ec2.describe_subnets()["Subnets"][0]["SubnetId"]
    ecs.run_task(
        cluster="prod",
        taskDefinition="web",
        launchType="FARGATE",
        networkConfiguration={"awsvpcConfiguration": {"subnets": [subnet], "securityGroups": ["sg-1"]}},
    )
    cloudmap.create_http_namespace(Name="prod.local")
    namespace = cloudmap.list_namespaces()["Namespaces"][0]["Id"]
    service = cloudmap.create_service(Name="web", NamespaceId=namespace)["Service"]["Id"]
    attributes = {"AWS_INSTANCE_IPV4": ip, "AWS_INSTANCE_PORT": str(port)}
    cloudmap.register_instance(ServiceId=service, InstanceId="i1", Attributes=attributes)


def filled_in(task):
    task.update(lastStatus="RUNNING", desiredStatus=TASK["desired"], group="service:web", availabilityZone=REGION + "a")
    task["containers"] = [
        {
            "name": "app",
            "lastStatus": "RUNNING",
            "healthStatus": "UNKNOWN",
            "networkInterfaces": [{"attachmentId": "a", "privateIpv4Address": TASK["ip"]}],
        }
    ]
    return task


def emulator(environ, start_response):
    path, query = environ["PATH_INFO"], parse_qs(environ.get("QUERY_STRING", ""))
    if path.startswith("/meshless/"):
        if path == "/meshless/task":
            make_task(query["ip"][0], int(query["port"][0]))
        else:
            TASK["desired"] = "STOPPED"
        start_response("200 OK", [("content-length", "3")])
        return [b"ok\n"]
    action = environ.get("HTTP_X_AMZ_TARGET", "").rpartition(".")[2]
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    if action == "ListTasks":
        asked = json.loads(body)
        if TASK["desired"] == "STOPPED" and asked.get("desiredStatus") == "RUNNING":
            answer = b'{"taskArns": []}'
            start_response("200 OK", [("content-type", "application/x-amz-json-1.1"), ("content-length", str(len(answer)))])
            return [answer]
        asked.pop("serviceName", None)
        body = json.dumps(asked).encode()
    environ["wsgi.input"] = io.BytesIO(body)
    environ["CONTENT_LENGTH"] = str(len(body))
    if action != "DescribeTasks":
        return MOTO(environ, start_response)
    seen = {}
    answer = b"".join(MOTO(environ, lambda status, headers, error=None: seen.update(status=status, headers=headers)))
    if seen["status"].startswith("200"):
        described = json.loads(answer)
        described["tasks"] = [filled_in(task) for task in described["tasks"]]
        answer = json.dumps(described).encode()
    headers = [(name, value) for name, value in seen["headers"] if name.lower() != "content-length"]
    start_response(seen["status"], headers + [("content-length", str(len(answer)))])
    return [answer]


if __name__ == "__main__":
    if sys.argv[1:] != ["server"]:
        sys.exit("usage: moto_server.py server")
    MOTO = DomainDispatcherApplication(create_backend_app)
    SERVER = make_server("127.0.0.1", 0, emulator, threaded=True)
    URL = f"http://127.0.0.1:{SERVER.server_port}"
    print(SERVER.server_port, flush=True)
    SERVER.serve_forever()
